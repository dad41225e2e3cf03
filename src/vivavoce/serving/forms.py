"""Multipart forms: a few fields of UTF-8, and files that are kept on disk while they come.

Starlette's own parser lets each of a thousand text fields have a mebibyte, in memory, and keeps as
much of each file there. Here all the text of a form together is what a JSON body may be, and of a
file no more than ``FILE_MEMORY_BYTES`` stays in memory. Starlette also takes what is not UTF-8 for
Latin-1, which turns any bytes into letters; names and text are UTF-8 here (RFC 7578, 5.1.2).

A recording that is uploaded stays where the form has it, which for a large one is a file, until it
has a slot of the engine: decoding waits for one, as everything does that costs something.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any

from pydantic import BaseModel
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from vivavoce.errors import ConsentRequired, InputError, Unsupported
from vivavoce.serving.body import Model, checked
from vivavoce.serving.context import ServerContext, context_of
from vivavoce.speech.folder_files import storage_errors
from vivavoce.text import is_speakable
from vivavoce.types import Recording

MAX_FORM_FIELDS = 50
MAX_FORM_FILES = 4
FILE_MEMORY_BYTES = 64 * 1024
_CHARSETS = {b"", b"utf-8", b"utf8"}


@asynccontextmanager
async def read_form(request: Request) -> AsyncIterator[FormData]:
    """A multipart body; its files are closed at the end.

    Raises InputError, BodyTooLarge, TooManyBodies, StorageFull where there is no room for its
    files, and EngineFailed where the engine fails for good before it has come.
    """
    kind, parameters = parse_options_header(request.headers.get("content-type", ""))
    if kind.strip().lower() != b"multipart/form-data":
        raise InputError("Content-Type must be multipart/form-data.")
    if parameters.get(b"charset", b"").lower() not in _CHARSETS:
        raise InputError("The form's charset must be UTF-8.")
    context = context_of(request)
    with storage_errors("received"):
        async with (
            context.service.lifecycle.loop.verdict.heard(),
            aclosing(request.stream()) as stream,
        ):
            form = await _parsed(request.headers, stream, context.settings.max_body_bytes)
    try:
        yield form
    finally:
        await form.close()


def form_fields(form: FormData, model: type[Model]) -> Model:
    """The form's text fields as a model. Raises InputError."""
    return checked({name: value for name, value in form.items() if isinstance(value, str)}, model)


async def _parsed(
    headers: Headers, stream: AsyncGenerator[bytes, None], max_text_bytes: int
) -> FormData:
    try:
        return await _Parser(headers, stream, max_text_bytes).parse()
    except MultiPartException as error:
        raise InputError(f"{error.message}.".replace("..", ".")) from error


class _Parser(MultiPartParser):
    """Counts what stays in memory, text and the heads of all parts, and refuses other bytes."""

    spool_max_size = FILE_MEMORY_BYTES

    def __init__(
        self, headers: Headers, stream: AsyncGenerator[bytes, None], max_text_bytes: int
    ) -> None:
        super().__init__(
            headers,
            stream,
            max_files=MAX_FORM_FILES,
            max_fields=MAX_FORM_FIELDS,
            max_part_size=max_text_bytes,
        )
        self._left_bytes = self._max_text_bytes = max_text_bytes

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        """Some of a field or of a file."""
        if self._current_part.file is None:
            self._count(end - start)
        super().on_part_data(data, start, end)

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        """Some of a part's head."""
        self._count(end - start)
        super().on_header_field(data, start, end)

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        """Some of a part's head."""
        self._count(end - start)
        super().on_header_value(data, start, end)

    def on_headers_finished(self) -> None:
        """A part's head."""
        super().on_headers_finished()
        _, options = parse_options_header(self._current_part.content_disposition)
        _check_utf8(options[b"name"], "A field's name is not UTF-8.")

    def on_part_end(self) -> None:
        """The end of a field or of a file."""
        if self._current_part.file is None:
            message = f"{self._current_part.field_name}: is not UTF-8."
            _check_utf8(self._current_part.data, message)
        super().on_part_end()

    def _count(self, size: int) -> None:
        self._left_bytes -= size
        if self._left_bytes < 0:
            raise MultiPartException(
                f"The text of the form is larger than {self._max_text_bytes} bytes."
            )


def _check_utf8(data: bytes | bytearray, message: str) -> None:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise MultiPartException(message) from error


def form_body(model: type[BaseModel]) -> dict[str, Any]:
    """``openapi_extra`` for a multipart body that the route reads itself."""
    reference = {"$ref": f"#/components/schemas/{model.__name__}"}
    content = {"multipart/form-data": {"schema": reference}}
    return {"requestBody": {"required": True, "content": content}}


def check_cloning(context: ServerContext) -> None:
    """Raise Unsupported where the engine cannot clone, before an upload is read."""
    info = context.service.engine.info
    if not info.capabilities.cloning:
        raise Unsupported(f"The engine {info.name!r} cannot clone voices.", param="file")


def check_consent(context: ServerContext, consent: str | None) -> None:
    """Raise ConsentRequired where the settings ask for a consent and none was sent."""
    if context.settings.require_consent and not (consent or "").strip():
        raise ConsentRequired(
            "This server clones nobody without consent: send the field consent, which says how the"
            " speaker agreed.",
            param="consent",
        )


def uploaded_recording(form: FormData, transcript: str | None, *names: str) -> Recording:
    """The file sent under the first of ``names`` that is there, for as long as the form is open.

    Raises InputError where there is none, and for a transcript without words.
    """
    if transcript is not None and not is_speakable(transcript):
        raise InputError("ref_text is empty; leave it out if it is not known.", param="ref_text")
    for name in names:
        file = form.get(name)
        if isinstance(file, UploadFile):
            return Recording(partial(_read, file), transcript, name)
    raise InputError(f"{names[0]}: a file is required.", param=names[0])


async def _read(file: UploadFile) -> bytes:
    await file.seek(0)
    return await file.read()
