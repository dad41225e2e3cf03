from __future__ import annotations

import io
from pathlib import Path

import pytest

from vivavoce.cli.options import read_text
from vivavoce.errors import InputError


def test_argument_wins_over_stdin() -> None:
    assert read_text("Hello.", None, io.BytesIO(b"unread")) == "Hello."


@pytest.mark.parametrize("argument", [None, "-"])
def test_stdin(argument: str | None) -> None:
    assert read_text(argument, None, io.BytesIO("Grüße.\n".encode())) == "Grüße.\n"


def test_file_without_its_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes(b"\xef\xbb\xbfHello.")
    assert read_text(None, file) == "Hello."


def test_invalid_utf8_names_the_byte(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes(b"Hello \xff")
    with pytest.raises(InputError, match=r"text\.txt is not UTF-8: byte 6 is 0xff"):
        read_text(None, file)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_text(None, tmp_path / "none.txt")


def test_two_texts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not both"):
        read_text("Hello.", tmp_path / "text.txt")
