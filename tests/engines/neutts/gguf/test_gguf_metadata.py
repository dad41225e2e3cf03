"""Reading the header of a GGUF file."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.engines.neutts.gguf.metadata import read_header
from vivavoce.errors import ModelFileError


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("metadata") / "small.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_string("text", "héllo")
    writer.add_array("words", ["a", "", "ñandú"])
    writer.add_array("numbers", [1, -2, 3])
    writer.add_array("nested", [[1, 2], [3, 4]])
    writer.add_uint32("count", 7)
    writer.add_float32("share", 0.5)
    writer.add_bool("yes", True)
    writer.add_uint64("big", 1 << 40)
    writer.add_custom_alignment(64)
    writer.add_tensor("first", np.arange(12, dtype=np.float32).reshape(3, 4))
    rows = np.ones((5, 64), np.float32)
    kind = gguf.GGMLQuantizationType.Q8_0
    writer.add_tensor("second", gguf.quants.quantize(rows, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_fields_of_every_kind(small_file: Path) -> None:
    header = read_header(small_file)
    assert header.text("text") == "héllo"
    assert header.strings("words") == [b"a", b"", "ñandú".encode()]
    numbers = header.array("numbers")
    assert numbers is not None
    assert numbers.tolist() == [1, -2, 3]
    assert (header.number("count"), header.number("share")) == (7, 0.5)
    assert (header.number("yes"), header.number("big")) == (True, 1 << 40)
    assert header.alignment == 64


def test_a_field_that_is_missing_or_of_another_kind_is_none(small_file: Path) -> None:
    header = read_header(small_file)
    for key in ("absent", "count"):
        assert header.text(key) is header.strings(key) is header.array(key) is None
    assert header.number("text") is None
    assert header.array("words") is None
    assert header.strings("numbers") is None
    assert header.array("nested") is None


def test_tensors_lie_where_the_reference_reader_finds_them(small_file: Path) -> None:
    header, reader = read_header(small_file), gguf.GGUFReader(small_file)
    assert len(header.tensors) == len(reader.tensors) == 2
    for mine, theirs in zip(header.tensors, reader.tensors, strict=True):
        assert mine.name == theirs.name
        assert mine.shape == tuple(theirs.shape.tolist())
        assert header.data_start + mine.offset == theirs.data_offset
        assert mine.size_bytes == theirs.n_bytes
        assert mine.row_bytes * mine.shape[1] == theirs.n_bytes


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_header_cut_anywhere_is_one_clear_error(
    small_file: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = small_file.read_bytes()
    cut = data.draw(st.integers(0, read_header(small_file).data_start - 65))
    path = tmp_path_factory.mktemp("cut") / "cut.gguf"
    path.write_bytes(whole[:cut])
    with pytest.raises(ModelFileError, match="no whole GGUF file"):
        read_header(path)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_noise_is_refused(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, marked: bool
) -> None:
    path = tmp_path_factory.mktemp("noise") / "noise.gguf"
    path.write_bytes((b"GGUF\x03\0\0\0" if marked else b"") + noise)
    try:
        header = read_header(path)
    except ModelFileError:
        return
    assert marked
    assert header.fields == {} or all(
        field.end <= len(noise) + 8 for field in header.fields.values()
    )


def test_a_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="cannot be read"):
        read_header(tmp_path / "none.gguf")
