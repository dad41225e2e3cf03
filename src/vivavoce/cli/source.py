"""Where a command's text comes from: the argument, a file, or standard input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO

from vivavoce.errors import InputError


def read_text(argument: str | None, file: Path | None, stdin: BinaryIO | None = None) -> str:
    """The text to speak. Raises InputError where there is none, two, or it is not UTF-8."""
    if file is not None:
        if argument is not None:
            raise InputError("Give the text either as an argument or with --file, not both.")
        return _decoded(_file_bytes(file), str(file))
    if argument is not None and argument != "-":
        return argument
    if argument is None and stdin is None and sys.stdin.isatty():
        raise InputError("There is no text: give it as an argument, with --file, or on stdin.")
    return _decoded((stdin or sys.stdin.buffer).read(), "standard input")


def _file_bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"The text file {file} cannot be read: {error.strerror}.") from error


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"The text in {name} is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}."
        ) from error
