"""Random checkpoints: the same bytes each time, ends where they are planted, true sizes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vivavoce.engines.neutts.torch_checkpoint import tensor_shapes
from vivavoce.engines.neutts.torch_config import read_config
from vivavoce.errors import ModelFileError, UnknownModel
from vivavoce.runtime.json_config import JsonObject
from vivavoce.testing.random_lm import RandomLm, config_json, make_random_lm


def test_the_same_arguments_give_the_same_bytes(
    tiny_lm: Callable[..., Path], tmp_path: Path
) -> None:
    first = tiny_lm("neutts-air")
    again = make_random_lm(RandomLm("neutts-air", small=True, dtype="F32", end_every=0), tmp_path)
    for file in ("config.json", "tokenizer.json", "model.safetensors"):
        assert (first / file).read_bytes() == (again / file).read_bytes()


@pytest.mark.parametrize(
    ("name", "tensors", "values"),
    [
        ("neutts-air", 290, 747_930_496 - 217_652 * 896),
        ("neutts-nano", 218, 228_704_832),
        ("neutts-2e", 310, 236_039_680),
    ],
)
def test_true_sizes(name: str, tensors: int, values: int) -> None:
    """The published counts; Air's file stores its tied head a second time."""
    rows = {"neutts-air": 217_652, "neutts-nano": 194_256, "neutts-2e": 217_232}[name]
    config = read_config(JsonObject(Path("config.json"), config_json(RandomLm(name).shape, rows)))
    shapes = tensor_shapes(config, tied=True).values()
    assert len(shapes) == tensors
    assert sum(shape[0] * (shape[1] if len(shape) > 1 else 1) for shape in shapes) == values


def test_an_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel):
        make_random_lm(RandomLm("neutts-large"), tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(ModelFileError):
        make_random_lm(RandomLm("neutts-air", small=True), tmp_path / "file")
