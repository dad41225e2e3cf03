from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from vivavoce.errors import ModelFileError
from vivavoce.runtime.safetensors_file import SafetensorsFile, writing


@pytest.mark.parametrize(
    "header",
    [
        "[]",
        '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}',
        '{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
        '{"a":{"dtype":"F32","shape":[-1,-1],"data_offsets":[0,4]}}',
        '{"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}}',
        '{"a":{"dtype":"F32","shape":1,"data_offsets":[0,4]}}',
        '{"a":{"dtype":"F32","shape":["x"],"data_offsets":[0,4]}}',
        '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}',
        '{"a":{"shape":[1],"data_offsets":[0,4]}}',
        '{"a":7}',
        '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        '"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        '{"a"',
        "\udc80",
    ],
)
def test_a_corrupt_header_is_refused(tmp_path: Path, header: str) -> None:
    path = tmp_path / "model.safetensors"
    text = header.encode(errors="surrogateescape")
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 4)
    with pytest.raises(ModelFileError, match=r"model\.safetensors"):
        SafetensorsFile.open(path)


def test_a_header_that_claims_to_be_endless(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\xff" * 64)
    with pytest.raises(ModelFileError, match="truncated"):
        SafetensorsFile.open(path)


def test_written_files_are_read_by_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with writing(path, {"a": ("F32", (2, 1)), "b": ("BF16", (3,))}) as file:
        file.write(torch.tensor([1.0, -2.0]).numpy().tobytes())
        file.write(torch.ones(3, dtype=torch.bfloat16).view(torch.int16).numpy().tobytes())
    with safe_open(path, "pt") as opened:
        assert opened.metadata() == {"format": "pt"}
        assert opened.get_tensor("a").tolist() == [[1.0], [-2.0]]
        assert opened.get_tensor("b").tolist() == [1.0, 1.0, 1.0]


def test_a_file_written_short_does_not_appear(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    short = writing(path, {"a": ("F32", (2,))})
    with pytest.raises(ModelFileError, match="4 bytes written of 8"), short as file:
        file.write(b"\0" * 4)
    assert list(tmp_path.iterdir()) == []
