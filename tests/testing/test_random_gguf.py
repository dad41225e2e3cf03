"""Random models."""

from __future__ import annotations

from pathlib import Path

import pytest

from vivavoce.engines.neutts.gguf.metadata import read_header
from vivavoce.errors import ModelFileError, UnknownModel
from vivavoce.testing.random_gguf import PUBLISHED, make_random_gguf


def test_the_same_arguments_make_the_same_bytes(tmp_path: Path) -> None:
    first = make_random_gguf("neutts-air", tmp_path / "a.gguf", small=True)
    again = make_random_gguf("neutts-air", tmp_path / "b.gguf", small=True)
    other = make_random_gguf("neutts-air", tmp_path / "c.gguf", small=True, seed=1)
    assert first.read_bytes() == again.read_bytes() != other.read_bytes()


def test_published_sizes_have_the_published_number_of_values() -> None:
    """Values stored, from the facts of the published files; Air's export stores its head again."""
    from math import prod

    from vivavoce.testing.random_gguf import _tensors
    from vivavoce.testing.random_vocabulary import SHAPES

    stored = {}
    for name, shape in PUBLISHED.items():
        rows = SHAPES[shape.family.name].rows
        stored[name] = sum(prod(size) for _, size in _tensors(shape, rows))
    head = 217_652 * 896
    assert stored["neutts-air"] + head == 747_930_496
    assert stored["neutts-nano"] == 228_704_832
    assert stored["neutts-2e"] == 236_039_680


def test_an_unknown_name_and_an_unusable_path_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match="neutts-nano"):
        make_random_gguf("neutts-mega", tmp_path / "a.gguf")
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelFileError):
        make_random_gguf("neutts-nano", tmp_path / "file" / "a.gguf", small=True)


def test_a_q4_file_has_its_head_in_q8(tmp_path: Path) -> None:
    header = read_header(make_random_gguf("neutts-nano", tmp_path / "a.gguf", small=True))
    kinds = {info.name: info.ggml_type for info in header.tensors}
    assert (kinds["token_embd.weight"], kinds["blk.0.ffn_up.weight"]) == (8, 2)
    assert kinds["output_norm.weight"] == 0
