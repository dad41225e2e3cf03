"""Multipart forms, strictly: their names and text fields are UTF-8 (RFC 7578, section 5.1.2).

Starlette takes what is not for Latin-1, which turns any bytes into letters.
"""

from __future__ import annotations

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from vivavoce.errors import InputError

MAX_FORM_FIELDS = 50
MAX_FORM_FILES = 4
_CHARSETS = {b"", b"utf-8", b"utf8"}


async def parse_form(request: Request) -> FormData:
    """The form of a multipart request; whoever asks closes it. Raises InputError."""
    _, parameters = parse_options_header(request.headers.get("content-type", ""))
    if parameters.get(b"charset", b"").lower() not in _CHARSETS:
        raise InputError("The form's charset must be UTF-8.")
    parser = _Utf8Parser(
        request.headers,
        request.stream(),
        max_files=MAX_FORM_FILES,
        max_fields=MAX_FORM_FIELDS,
    )
    try:
        return await parser.parse()
    except MultiPartException as error:
        raise InputError(error.message) from error


class _Utf8Parser(MultiPartParser):
    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        _, options = parse_options_header(self._current_part.content_disposition)
        _check_utf8(options[b"name"], "A field's name is not UTF-8.")

    def on_part_end(self) -> None:
        if self._current_part.file is None:
            message = f"{self._current_part.field_name}: is not UTF-8."
            _check_utf8(self._current_part.data, message)
        super().on_part_end()


def _check_utf8(data: bytes | bytearray, message: str) -> None:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise MultiPartException(message) from error
