"""What the OpenAPI description says about routes that speak."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from vivavoce.audio.containers import ENCODINGS
from vivavoce.errors import InputError
from vivavoce.serving.context import ServerContext
from vivavoce.serving.framing import EVENT_STREAM
from vivavoce.serving.problems import documented
from vivavoce.types import Timings

_ERRORS = (400, 404, 413, 429, 500, 503, 504)
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_EVENTS = {
    "itemSchema": {
        "type": "object",
        "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
        "required": ["data"],
    }
}
_HEADERS = {
    "X-Sample-Rate": "Hz of the sound that was sent.",
    "X-Vivavoce-Engine": "The engine that spoke.",
    "X-Vivavoce-Voice": "The voice that spoke.",
    "X-Cache": "hit or miss.",
    "Server-Timing": "Milliseconds in the queue and until the first sound.",
}


def speech_responses(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """The answers of a route that speaks in one of ``media_types``."""
    headers = {
        name: {"description": text, "schema": {"type": "string"}, "required": True}
        for name, text in _HEADERS.items()
    }
    headers["X-Ignored-Fields"] = {
        "description": "Fields of the request that had no effect.",
        "schema": {"type": "string"},
        "required": False,
    }
    content = {kind: _EVENTS if kind == EVENT_STREAM else _BINARY for kind in media_types}
    spoken = {"description": "Speech, as it is made.", "headers": headers, "content": content}
    return {200: spoken, **documented(*_ERRORS)}


def encoding_media_types() -> tuple[str, ...]:
    """The Content-Types of all encodings."""
    return tuple(dict.fromkeys(entry.mime_type for entry in ENCODINGS.values()))


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """``openapi_extra`` for a JSON body that the route reads itself."""
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
    return {"requestBody": {"required": True, "content": content}}


def form_body(model: type[BaseModel]) -> dict[str, Any]:
    """``openapi_extra`` for a multipart body that the route reads itself."""
    reference = {"$ref": f"#/components/schemas/{model.__name__}"}
    content = {"multipart/form-data": {"schema": reference}}
    return {"requestBody": {"required": True, "content": content}}


def report_invalid(context: ServerContext, error: InputError, transport: str) -> None:
    """Count a request that was refused before it reached the speech service."""
    context.service.observer.finished("invalid", Timings(), transport)
