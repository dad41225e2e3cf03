"""ONNX, PyTorch and the formulas make the same sound of the same weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engines.neutts.codec.written_out import decoded
from vivavoce.engines.neutts.codec.network import DecoderWeights
from vivavoce.engines.neutts.codec.onnx_codec import OnnxCodec, open_onnx_codec
from vivavoce.engines.neutts.codec.stream import (
    HOP,
    SAMPLE_RATE_HZ,
    Codec,
    CodecStream,
    Codes,
    Schedule,
)
from vivavoce.errors import InputError, ModelFileError, SettingsError
from vivavoce.testing.clicks import click_scores
from vivavoce.testing.random_neucodec import make_random_codec
from vivavoce.types import Samples

pytest.importorskip("onnxruntime")
INT8_DB = 25.0
"""How far below the sound int8's error lies at least; 28 to 32 dB were measured."""


@pytest.fixture(scope="module")
def onnx_codec(checkpoint: Path) -> OnnxCodec:
    return open_onnx_codec(checkpoint, precision="float32")


def _codes(count: int, seed: int = 0) -> Codes:
    return np.random.default_rng(seed).integers(0, 65_536, count).astype(np.int32)


def _below_db(error: Samples, sound: Samples) -> float:
    return float(10 * np.log10(np.mean(sound**2) / np.mean(error**2)))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 31])
def test_onnx_is_the_formulas(onnx_codec: OnnxCodec, weights: DecoderWeights, count: int) -> None:
    codes = _codes(count, seed=count)
    sound = onnx_codec.decode(codes)
    assert sound.shape == (HOP * count,) and sound.dtype == np.float32
    np.testing.assert_allclose(sound, decoded(weights, codes), atol=1e-4)


@pytest.mark.parametrize("count", [1, 2, 31])
def test_torch_is_the_formulas(checkpoint: Path, weights: DecoderWeights, count: int) -> None:
    pytest.importorskip("torch")
    from vivavoce.engines.neutts.codec.torch_decoder import open_torch_codec

    codec = open_torch_codec(checkpoint)
    codes = _codes(count, seed=count)
    sound = codec.decode(codes)
    assert sound.shape == (HOP * count,) and sound.dtype == np.float32
    np.testing.assert_allclose(sound, decoded(weights, codes), atol=1e-4)


@pytest.mark.parametrize("refused", ["never", "12", "NeuCodec"])
def test_a_capture_that_fails_decodes_as_it_is(
    checkpoint: Path, caplog: pytest.LogCaptureFixture, refused: str
) -> None:
    """Captured lengths give the same sound, and what cannot be captured fails no load."""
    torch = pytest.importorskip("torch")
    from vivavoce.engines.neutts.codec.network import open_decoder
    from vivavoce.engines.neutts.codec.torch_decoder import TorchCodec, load_decoder
    from vivavoce.testing.recorded_graphs import RecordingGraphs

    module = load_decoder(open_decoder(checkpoint), torch.device("cpu"), torch.float32)
    graphs = RecordingGraphs(refuses=lambda name: refused in name)
    codec, plain = TorchCodec(module, (20, 12), graphs), TorchCodec(module, ())
    kept = {"never": (12, 20), "12": (20,), "NeuCodec": ()}[refused]
    assert codec.windows == kept
    assert ("running without" in caplog.text) == (refused != "never")
    for count in (12, 20, 15):
        codes = _codes(count, seed=count)
        np.testing.assert_allclose(codec.decode(codes), plain.decode(codes), atol=1e-6)
    told = codec.details
    assert (told["graphs_captured"], told["graphs_failed"]) == (len(kept), 2 - len(kept))
    assert (told["graphs_replayed"], told["graphs_eager"]) == (len(kept), 3 - len(kept))


def test_bfloat16_stays_near(checkpoint: Path, onnx_codec: OnnxCodec) -> None:
    pytest.importorskip("torch")
    from vivavoce.engines.neutts.codec.torch_decoder import open_torch_codec

    codec = open_torch_codec(checkpoint, precision="bfloat16")
    exact = onnx_codec.decode(_codes(40))
    assert _below_db(codec.decode(_codes(40)) - exact, exact) > 20
    assert codec.details["precision"] == "bfloat16"


@pytest.mark.parametrize("precision", ["int8", "int8-layers"])
def test_int8_stays_near(checkpoint: Path, onnx_codec: OnnxCodec, precision: str) -> None:
    small = open_onnx_codec(checkpoint, precision=precision)  # type: ignore[arg-type]
    exact = onnx_codec.decode(_codes(56))
    assert INT8_DB < _below_db(small.decode(_codes(56)) - exact, exact) < 45


def test_unsigned_weights_change_nothing(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vivavoce.engines.neutts.codec.onnx_files import adds_in_32_bits

    if not adds_in_32_bits():
        pytest.skip("signed weights overflow on this processor")
    signed = open_onnx_codec(checkpoint).decode(_codes(20))
    where = "vivavoce.engines.neutts.codec.onnx_files.adds_in_32_bits"
    monkeypatch.setattr(where, lambda: False)
    unsigned = open_onnx_codec(checkpoint).decode(_codes(20))
    np.testing.assert_allclose(signed, unsigned, atol=1e-4)


def test_a_published_graph_is_used_as_it_is(tmp_path: Path, onnx_codec: OnnxCodec) -> None:
    graph = make_random_codec(tmp_path / "model.onnx", tiny=True)
    for path in (graph, tmp_path):
        codec = open_onnx_codec(path)
        np.testing.assert_allclose(codec.decode(_codes(9)), onnx_codec.decode(_codes(9)), atol=1e-5)
    assert codec.details["precision"] == "as published"
    assert [each.name for each in tmp_path.iterdir()] == ["model.onnx"]


def test_sound_is_neither_silent_nor_clipped(onnx_codec: OnnxCodec) -> None:
    sound = onnx_codec.decode(_codes(100))
    assert 0.02 < sound.std() < 0.2
    assert np.abs(sound).max() < 1


def test_windows_may_start_anywhere(onnx_codec: OnnxCodec) -> None:
    # A repeated code is the same at every place of the window but near its ends.
    sound = onnx_codec.decode(np.full(60, 12_345, np.int32)).reshape(60, HOP)
    np.testing.assert_allclose(sound[20], sound[40], atol=1e-3)


@pytest.mark.parametrize("chunks", [(8, 15, 25, 50), (12, 25), (5,)])
def test_pieces_make_the_whole_length_without_seams(
    onnx_codec: OnnxCodec, chunks: tuple[int, ...]
) -> None:
    codes, reference = _codes(133), _codes(60, seed=1)
    stream = CodecStream(onnx_codec, reference, Schedule(chunks))
    pieces = []
    for code in codes:
        stream.push(code[None])
        while stream.ready():
            pieces.append(stream.advance())
    pieces.append(stream.finish())
    sound = np.concatenate(pieces)
    assert len(sound) == HOP * len(codes)
    seams = np.cumsum([len(piece) for piece in pieces])[:-1]
    scores = click_scores(sound, SAMPLE_RATE_HZ)
    assert max(scores[at - 24 : at + 24].max() for at in seams) < 2.3
    whole = onnx_codec.decode(np.concatenate([reference, codes]))[len(reference) * HOP :]
    assert sound.std() == pytest.approx(whole.std(), rel=0.1)


def test_hard_cuts_are_found_by_the_same_detector(onnx_codec: OnnxCodec) -> None:
    codes = _codes(100)
    pieces = [onnx_codec.decode(codes[at : at + 10]) for at in range(0, 100, 10)]
    scores = click_scores(np.concatenate(pieces), SAMPLE_RATE_HZ)
    assert max(scores[at - 24 : at + 24].max() for at in range(10 * HOP, 100 * HOP, 10 * HOP)) > 2.5


def test_wrong_codes_are_refused(onnx_codec: OnnxCodec) -> None:
    for codes in (np.array([], np.int32), np.array([70_000], np.int32)):
        with pytest.raises(InputError):
            onnx_codec.decode(codes)


def test_a_device_that_is_not_there_is_an_error(checkpoint: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("CUDA is there")
    with pytest.raises(SettingsError, match="CUDA"):
        open_onnx_codec(checkpoint, device="cuda")


def test_both_decoders_keep_the_contract(checkpoint: Path, onnx_codec: OnnxCodec) -> None:
    pytest.importorskip("torch")
    from vivavoce.engines.neutts.codec.torch_decoder import open_torch_codec

    torch_codec = open_torch_codec(checkpoint)
    for codec in (onnx_codec, torch_codec):
        kept: Codec = codec
        assert (kept.device, kept.windows) == ("cpu", ())
    torch_codec.close()


WITHOUT_TORCH = """
import sys
for name in ("torch", "safetensors", "tokenizers", "transformers"):
    sys.modules[name] = None
from vivavoce.engines.neutts.codec.onnx_codec import open_onnx_codec
import numpy as np
print(len(open_onnx_codec(sys.argv[1]).decode(np.arange(5, dtype=np.int32))))
"""


def test_onnx_needs_no_torch(checkpoint: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, str(checkpoint)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(5 * HOP), done.stderr


def test_the_contract_alone_imports_nothing_heavy() -> None:
    code = (
        "import sys; import vivavoce.engines.neutts.codec.stream;"
        "print([n for n in ('torch', 'onnx', 'onnxruntime') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_graph_that_is_no_decoder_is_refused(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [value], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "other.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match="inputs"):
        open_onnx_codec(tmp_path / "other.onnx")
