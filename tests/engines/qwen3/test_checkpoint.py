from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vivavoce.engines.qwen3.checkpoint import FILES, codebook, open_checkpoint
from vivavoce.errors import ModelFileError

Make = Callable[[str], Path]
WEIGHTS = ("model.safetensors", "speech_tokenizer/model.safetensors")
NORM = "talker.model.norm.weight"
EMBEDDING = "talker.model.codec_embedding.weight"


def test_reads_what_safetensors_reads(tiny_checkpoint: Make) -> None:
    folder = tiny_checkpoint("1.7B-Base")
    checkpoint = open_checkpoint(folder)
    expected = load_file(folder / WEIGHTS[0])
    expected |= {f"codec.{name}": t for name, t in load_file(folder / WEIGHTS[1]).items()}
    assert set(checkpoint.names()) == set(expected)
    for name, tensor in checkpoint.tensors(""):
        assert tensor.dtype == expected[name].dtype
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_named(tiny_copy: Make, file: str) -> None:
    folder = tiny_copy("0.6B-CustomVoice")
    (folder / file).unlink()
    with pytest.raises(ModelFileError, match=file.replace(".", r"\.")):
        open_checkpoint(folder)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no folder"):
        open_checkpoint(tmp_path / "nothing")


def _change(path: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


CHANGES: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "missing": (lambda t: t.pop(NORM), f"missing {NORM}"),
    "unexpected": (lambda t: t.update({"lm_head.weight": torch.ones(2)}), "unexpected lm_head"),
    "shape": (lambda t: t.update({NORM: torch.ones(7)}), rf"{NORM} is \[7\], not \[48\]"),
    "dtype": (lambda t: t.update({NORM: torch.ones(48).long()}), f"{NORM} is I64, not one of"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_tensor_that_does_not_fit_is_named(tiny_copy: Make, case: str) -> None:
    folder = tiny_copy("0.6B-CustomVoice")
    change, message = CHANGES[case]
    _change(folder / WEIGHTS[0], change)
    with pytest.raises(ModelFileError, match=message):
        open_checkpoint(folder)


def test_weights_of_another_model(tiny_copy: Make, tiny_checkpoint: Make) -> None:
    folder = tiny_copy("0.6B-CustomVoice")
    other = tiny_checkpoint("1.7B-CustomVoice") / WEIGHTS[0]
    (folder / WEIGHTS[0]).write_bytes(other.read_bytes())
    with pytest.raises(ModelFileError, match="small_to_mtp_projection"):
        open_checkpoint(folder)


@pytest.mark.parametrize("file", WEIGHTS)
@pytest.mark.parametrize("kept", [0, 4, 8, 1_000, -1, -100_000])
def test_a_truncated_file_is_refused(tiny_copy: Make, file: str, kept: int) -> None:
    path = tiny_copy("0.6B-CustomVoice") / file
    whole = path.read_bytes()
    path.write_bytes(whole[:kept])
    with pytest.raises(ModelFileError, match=file) as caught:
        open_checkpoint(path.parents[file.count("/")])
    assert "truncated" in caught.value.message or "no safetensors" in caught.value.message


def test_a_file_that_shrinks_after_opening(tiny_copy: Make) -> None:
    folder = tiny_copy("0.6B-CustomVoice")
    checkpoint = open_checkpoint(folder)
    path = folder / WEIGHTS[0]
    path.write_bytes(path.read_bytes()[:2_000])
    with pytest.raises(ModelFileError, match=NORM):
        checkpoint.tensor(NORM)


class _Head(nn.Module):
    """Two of the talker's modules, and a buffer of its own that no file has."""

    def __init__(self, width: int = 48, codes: int = 3072) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.codec_embedding = nn.Embedding(codes, width)
        self.model.norm = nn.RMSNorm(width)
        self.register_buffer("own", torch.zeros(3), persistent=False)


def _others(name: str) -> bool:
    return name not in ("model.codec_embedding.weight", "model.norm.weight")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_loads_into_a_module(tiny_checkpoint: Make, dtype: torch.dtype) -> None:
    checkpoint = open_checkpoint(tiny_checkpoint("0.6B-CustomVoice"))
    with torch.device("meta"):
        module = _Head()
    checkpoint.load_into(module, "talker.", dtype=dtype, unused=_others)
    stored = checkpoint.tensor(EMBEDDING)
    assert stored.dtype == torch.bfloat16
    weight = module.model.codec_embedding.weight
    assert torch.equal(weight, stored.to(dtype))
    assert (weight.dtype, weight.device.type, weight.requires_grad) == (dtype, "cpu", False)
    assert isinstance(weight, nn.Parameter)


def test_a_module_that_does_not_fit_is_refused(tiny_checkpoint: Make) -> None:
    checkpoint = open_checkpoint(tiny_checkpoint("0.6B-CustomVoice"))
    with pytest.raises(ModelFileError, match=r"unexpected .*text_projection"):
        checkpoint.load_into(
            _Head(), "talker.", dtype=torch.float32, unused=lambda n: "text_projection" not in n
        )
    with pytest.raises(ModelFileError, match=r"codec_embedding.weight is \[3072, 48\]"):
        checkpoint.load_into(_Head(40), "talker.", dtype=torch.float32, unused=_others)
    with pytest.raises(ModelFileError, match=r"missing model\.codec_embedding"):
        checkpoint.load_into(_Head(), "speaker_encoder.", dtype=torch.float32)


def test_reads_into_part_of_a_tensor(tiny_checkpoint: Make) -> None:
    checkpoint = open_checkpoint(tiny_checkpoint("0.6B-CustomVoice"))
    fused = torch.zeros(2, 48)
    checkpoint.read_into(NORM, fused[1])
    assert torch.equal(fused[1], checkpoint.tensor(NORM).float())
    assert not fused[0].any()
    with pytest.raises(ModelFileError, match=NORM):
        checkpoint.read_into(NORM, fused)
    with pytest.raises(ModelFileError, match=r"no tensor 'talker\.nothing'"):
        checkpoint.tensor("talker.nothing")


def test_codebooks(tiny_checkpoint: Make) -> None:
    checkpoint = open_checkpoint(tiny_checkpoint("0.6B-CustomVoice"))
    decoder, encoder = checkpoint.decoder_codebooks(), checkpoint.encoder_codebooks()
    assert decoder.shape == encoder.shape == (16, 2048, 8)
    assert decoder.dtype == torch.float32
    book = "codec.decoder.quantizer.rvq_rest.vq.layers.14._codebook."
    usage = checkpoint.tensor(book + "cluster_usage")
    assert torch.allclose(decoder[15] * usage[:, None], checkpoint.tensor(book + "embedding_sum"))
    unused = codebook(torch.tensor([[1.0]]), torch.tensor([0.0]))
    assert unused.item() == pytest.approx(1e5)


PEAK = """
import sys, torch
from torch import nn
from vivavoce.engines.qwen3.checkpoint import open_checkpoint
class Table(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape))
def peak_kib():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
checkpoint = open_checkpoint(sys.argv[1])
name = "talker.model.text_embedding."
with torch.device("meta"):
    tables = [Table((151936, 32)) for _ in range(12)]
before = peak_kib()
for table in tables:
    checkpoint.load_into(table, name, dtype=torch.bfloat16)
print((peak_kib() - before) * 1024 / (12 * 151936 * 32 * 2))
"""


def test_loading_holds_no_second_copy(tiny_checkpoint: Make) -> None:
    folder = tiny_checkpoint("0.6B-CustomVoice")
    ran = subprocess.run(
        [sys.executable, "-c", PEAK, str(folder)], capture_output=True, text=True, check=True
    )
    assert 0.9 < float(ran.stdout) < 1.15
