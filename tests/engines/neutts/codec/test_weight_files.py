"""Checkpoints are read without torch, and without trusting them."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vivavoce.engines.neutts.codec.network import TINY, open_decoder, tensor_shapes
from vivavoce.engines.neutts.codec.onnx_codec import open_onnx_codec
from vivavoce.errors import ModelFileError
from vivavoce.runtime.checkpoint import fused, open_weights
from vivavoce.runtime.torch_zip import TorchZip
from vivavoce.testing.random_neucodec import make_random_codec, random_tensor
from vivavoce.testing.torch_zip_writing import write_torch_zip

SHAPES = tensor_shapes(TINY)
QUANTIZER = "generator.quantizer.project_out.weight"


def _state() -> dict[str, Any]:
    return {name: random_tensor(name, shape, 0) for name, shape in SHAPES.items()}


def _write(path: Path, state: dict[str, Any]) -> Path:
    shapes = {name: values.shape for name, values in state.items()}
    write_torch_zip(path, iter(state.items()), shapes)
    return path


def test_torch_loads_what_is_written(checkpoint: Path) -> None:
    torch = pytest.importorskip("torch")
    loaded = torch.load(checkpoint, weights_only=True)
    assert {name: tuple(tensor.shape) for name, tensor in loaded.items()} == SHAPES
    assert np.array_equal(loaded[QUANTIZER].numpy(), random_tensor(QUANTIZER, SHAPES[QUANTIZER], 0))


def test_what_torch_saves_is_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    whole = torch.arange(24.0).reshape(4, 6)
    state = OrderedDict(
        whole=whole,
        part=whole[1:3, 2:].t(),
        half=whole.half(),
        bfloat=whole.bfloat16(),
        number=torch.tensor(3),
        parameter=torch.nn.Parameter(whole + 1),
    )
    torch.save(state, tmp_path / "state.bin")
    file = open_weights(tmp_path / "state.bin")
    assert set(file.shapes) == set(state)
    for name, tensor in state.items():
        assert np.array_equal(file.read(name), tensor.detach().float().numpy()), name


def test_a_tensor_saved_by_itself_is_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save(torch.arange(5, dtype=torch.int32), tmp_path / "codes.pt")
    file = TorchZip.open(tmp_path / "codes.pt")
    assert file.read("").tolist() == [0, 1, 2, 3, 4]


def test_layouts_hold_the_same_weights(checkpoint: Path, tmp_path: Path) -> None:
    other = open_decoder(make_random_codec(tmp_path / "model.safetensors", tiny=True))
    one = open_decoder(checkpoint)
    assert one.shape == other.shape == TINY
    for name in SHAPES:
        assert np.array_equal(one.read(name), other.read(name)), name


def test_a_folder_is_searched(checkpoint: Path) -> None:
    assert open_weights(checkpoint.parent).path == checkpoint


def test_weight_norms_are_multiplied_out(tmp_path: Path) -> None:
    state = _state()
    weight = state.pop("fc_post_a.weight")
    length = np.linspace(1, 2, len(weight), dtype=np.float32)[:, None]
    state |= {"fc_post_a.weight_g": length, "fc_post_a.weight_v": weight}
    read = open_decoder(_write(tmp_path / "a.bin", state)).read("fc_post_a.weight")
    norms = np.sqrt((weight.astype(np.float64) ** 2).sum(1, keepdims=True))
    np.testing.assert_allclose(read, weight / norms * length, rtol=1e-5)


def test_a_weight_norm_over_the_last_dimension() -> None:
    direction = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    length = np.full((1, 1, 5), 2, np.float32)
    np.testing.assert_allclose(np.sqrt((fused(length, direction) ** 2).sum((0, 1))), 2, rtol=1e-5)


def test_what_an_export_calls_otherwise_is_found(tmp_path: Path) -> None:
    state = {name.replace("quantizer.", "quantizer.fsqs.0."): v for name, v in _state().items()}
    weights = open_decoder(_write(tmp_path / "a.bin", state))
    assert np.array_equal(weights.read(QUANTIZER), _state()[QUANTIZER])


def test_training_leftovers_and_the_encoder_are_left_alone(tmp_path: Path) -> None:
    more = {
        "fc_post_a.weight_g": np.zeros((1, 1), np.float32),
        "generator.head.istft.window": np.zeros(1920, np.float32),
        "CodecEnc.conv_blocks.0.bias": np.zeros(3, np.float32),
    }
    open_decoder(_write(tmp_path / "a.bin", _state() | more))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"generator.head.out.bias": None}, r"missing generator\.head\.out\.bias"),
        ({"generator.backbone.other": np.zeros(2)}, r"unexpected generator\.backbone\.other"),
        ({"generator.head.out.bias": np.zeros(4)}, r"wrong shape: .* is \[4\], not \[1922\]"),
        ({"fc_post_a.weight": None}, "no NeuCodec decoder"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    state = {name: values for name, values in (_state() | change).items() if values is not None}
    with pytest.raises(ModelFileError, match=told):
        open_decoder(_write(tmp_path / "a.bin", state))


def test_values_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    state = _state()
    state["fc_post_a.bias"] = np.full(SHAPES["fc_post_a.bias"], np.nan, np.float32)
    with pytest.raises(ModelFileError, match=r"fc_post_a\.bias"):
        open_onnx_codec(_write(tmp_path / "a.bin", state))


class _Harm:
    def __reduce__(self) -> Any:
        return os.mkdir, ("harmed",)


@pytest.mark.parametrize("harm", [_Harm(), {"a": _Harm()}, print])
def test_nothing_in_a_file_is_run(
    tmp_path: Path, harm: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("a.bin", "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps(harm, 2))
    with pytest.raises(ModelFileError, match="asks for"):
        open_weights(Path("a.bin"))
    assert not Path("harmed").exists()


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.99])
def test_truncated_files_are_refused(checkpoint: Path, tmp_path: Path, kept: float) -> None:
    whole = checkpoint.read_bytes()
    (tmp_path / "a.bin").write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ModelFileError):
        open_onnx_codec(tmp_path / "a.bin")


def test_damaged_values_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    data = bytearray(checkpoint.read_bytes())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "a.bin").write_bytes(data)
    with pytest.raises(ModelFileError, match="CRC"):
        open_onnx_codec(tmp_path / "a.bin")


def test_a_damaged_table_is_refused_whatever_is_damaged(checkpoint: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(checkpoint) as archive:
        table = archive.read("pytorch_model/data.pkl")
    refused = 0
    for number in range(150):
        damaged = bytearray(table)
        for at in rng.integers(0, len(table), 3):
            damaged[at] = rng.integers(256)
        path = tmp_path / f"{number}.bin"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x/data.pkl", bytes(damaged))
        with pytest.raises(ModelFileError):
            open_decoder(path)
        refused += 1
    assert refused == 150


def test_missing_old_and_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "old.bin").write_bytes(pickle.dumps({}, 2))
    (tmp_path / "a.safetensors").write_bytes(b"\0" * 100)
    (tmp_path / "a.onnx").write_bytes(b"no graph")
    (tmp_path / "empty").mkdir()
    for name in ("none.bin", "old.bin", "a.safetensors", "a.onnx", "empty"):
        with pytest.raises(ModelFileError):
            open_onnx_codec(tmp_path / name)
