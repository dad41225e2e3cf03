"""Request bodies read with care: JSON and forms become checked models, or an InputError."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData
from starlette.requests import Request

from vivavoce.errors import InputError
from vivavoce.serving.problems import from_validation
from vivavoce.speech.folder_files import storage_errors

Model = TypeVar("Model", bound=BaseModel)

MAX_FORM_FIELDS = 50
MAX_FORM_FILES = 4


async def read_json(request: Request, model: type[Model]) -> Model:
    """The request's body as a model. Raises InputError, BodyTooLarge."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind and kind != "application/json" and not kind.endswith("+json"):
        raise InputError(f"Content-Type must be application/json, not {kind!r}.")
    return parse_json(await request.body(), model)


def parse_json(raw: bytes | str, model: type[Model]) -> Model:
    """A JSON object as a model. Raises InputError."""
    return checked(parse_object(raw), model)


def parse_object(raw: bytes | str) -> dict[str, Any]:
    """A JSON object, strictly: UTF-8, without NaN or Infinity. Raises InputError."""
    try:
        text = raw if isinstance(raw, str) else raw.decode("utf-8-sig")
        fields = json.loads(text, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise InputError("The body is not UTF-8.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"The body is not JSON: {error}.") from error
    if not isinstance(fields, dict):
        raise InputError("The body must be a JSON object.")
    if "\\u" in text:
        _refuse_lone_surrogates(fields)
    return fields


@asynccontextmanager
async def read_form(request: Request) -> AsyncIterator[FormData]:
    """A multipart body; its files are closed at the end.

    Raises InputError, BodyTooLarge, and StorageFull where there is no room for its files.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise InputError("Content-Type must be multipart/form-data.")
    # Of large files the form keeps a part on disk.
    with storage_errors("received"):
        form = await request.form(max_files=MAX_FORM_FILES, max_fields=MAX_FORM_FIELDS)
    try:
        yield form
    finally:
        await form.close()


def form_fields(form: FormData, model: type[Model]) -> Model:
    """The form's text fields as a model. Raises InputError."""
    return checked({name: value for name, value in form.items() if isinstance(value, str)}, model)


def checked(fields: Mapping[str, Any], model: type[Model]) -> Model:
    """Fields as a model. Raises InputError that names the first one at fault."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise from_validation(error) from error


def _refuse_lone_surrogates(fields: Mapping[str, Any]) -> None:
    """JSON can escape half of a pair, which is no text and cannot be encoded again."""
    for name, value in fields.items():
        try:
            json.dumps([name, value], ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise InputError(f"{name}: holds a lone surrogate.", param=name) from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")
