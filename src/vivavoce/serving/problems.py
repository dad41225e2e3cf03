"""Errors as answers: the one place that turns them into HTTP responses and WebSocket events.

HTTP answers have OpenAI's envelope ``{"error": {"message", "type", "param", "code"}}``.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from vivavoce.errors import (
    Busy,
    Cancelled,
    InputError,
    NotFound,
    RateLimited,
    SlowConsumer,
    Unauthorized,
    Unavailable,
    VivavoceError,
)

log = logging.getLogger(__name__)

MAX_MESSAGE_CHARS = 2_000
MAX_PARAM_CHARS = 100

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}


class ErrorDetail(BaseModel):
    """What went wrong, in OpenAI's words."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorDetail


def error_detail(error: VivavoceError) -> dict[str, Any]:
    """``message``, ``type``, ``param`` and ``code`` of an error, safe to encode as UTF-8."""
    return _detail(status_of(error), error.message, error.param, error.code)


def error_event(error: VivavoceError) -> dict[str, Any]:
    """The WebSocket event of an error; ``detail`` is the name older clients read."""
    detail = error_detail(error)
    event = {"event": "error", **detail, "detail": detail["message"]}
    if isinstance(error, Busy | RateLimited | Unavailable):
        event["retry_after_ms"] = error.retry_after_ms
    return event


def problem_response(error: VivavoceError, headers: Mapping[str, str] | None = None) -> Response:
    """The HTTP answer of an error."""
    return _response(status_of(error), error_detail(error), _headers(error) | dict(headers or {}))


def problem_bytes(error: VivavoceError) -> bytes:
    """The same as it goes over the wire, for a connection whose request reaches no application."""
    response = problem_response(error, {"Connection": "close"})
    status = HTTPStatus(response.status_code)
    lines = [f"HTTP/1.1 {status} {status.phrase}".encode()]
    lines += [name + b": " + value for name, value in response.raw_headers]
    return b"\r\n".join([*lines, b"", bytes(response.body)])


def status_of(error: VivavoceError) -> int:
    """The HTTP status of an error. A stream that the server itself ended is 503, not 499."""
    if isinstance(error, Cancelled) and not isinstance(error, SlowConsumer):
        return 503
    return error.status


def from_validation(error: ValidationError) -> InputError:
    """The first fault that pydantic found, naming the request's field."""
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = str(fault["loc"][0]) if fault["loc"] else None
    message = f"{field}: {fault['msg']}." if field else f"{fault['msg']}."
    return InputError(message, param=field)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries for the error answers of a route."""
    return {
        status: {"model": ErrorEnvelope, "description": HTTPStatus(status).phrase}
        for status in statuses
    }


def install_problem_handlers(app: FastAPI, routes: Iterable[BaseRoute]) -> None:
    """Give every error, the framework's own included, an answer in the envelope.

    ``routes`` are those that ``Allow`` is told of.
    """
    app.state.plain_routes = [route for route in routes if isinstance(route, Route)]
    app.add_exception_handler(VivavoceError, _on_vivavoce)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(ClientDisconnect, _on_gone)
    app.add_exception_handler(Exception, _on_unexpected)


async def _on_vivavoce(request: Request, error: Exception) -> Response:
    assert isinstance(error, VivavoceError)
    return problem_response(error)


async def _on_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    fault = error.errors()[0]
    field = str(fault["loc"][-1])
    return problem_response(InputError(f"{field}: {fault['msg']}.", param=field))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_allowed(request))
    if error.status_code == HTTPStatus.NOT_FOUND:
        return problem_response(NotFound(f"There is nothing at {request.url.path}."), headers)
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    detail = _detail(error.status_code, f"{error.detail}.".replace("..", "."), None, code)
    return _response(error.status_code, detail, headers)


async def _on_gone(request: Request, error: Exception) -> Response:
    """The client left in the middle of its body; nobody reads this."""
    return problem_response(Cancelled("The client went away."))


async def _on_unexpected(request: Request, error: Exception) -> Response:
    # Sent outside of the middleware that names every other answer.
    identity = request.scope.get("vivavoce.request_id", "")
    headers = {"X-Request-ID": identity} if identity else {}
    return problem_response(VivavoceError("The server failed; its log says more."), headers)


def _allowed(request: Request) -> list[str]:
    """The methods of every route at this path."""
    methods: set[str] = set()
    for route in request.app.state.plain_routes:
        if route.path_regex.match(request.url.path):
            methods |= route.methods or set()
    if "GET" in methods:
        methods.add("HEAD")
    return sorted(methods)


def _detail(status: int, message: str, param: str | None, code: str | None) -> dict[str, Any]:
    kind = _TYPES.get(status) or ("server_error" if status >= 500 else "invalid_request_error")
    return {
        "message": _encodable(_cut(message, MAX_MESSAGE_CHARS)),
        "type": kind,
        "param": None if param is None else _encodable(_cut(param, MAX_PARAM_CHARS)),
        "code": code,
    }


def _cut(text: str, most_chars: int) -> str:
    """Where a message repeats what was sent, whatever that was, it is no longer than this."""
    return text if len(text) <= most_chars else text[: most_chars - 1] + "…"


def _response(status: int, detail: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
    body = json.dumps({"error": detail}, ensure_ascii=False).encode()
    return Response(body, status, dict(headers), "application/json")


def _headers(error: VivavoceError) -> dict[str, str]:
    match error:
        case Busy() | Unavailable():
            return _retry_after(error.retry_after_ms, most_s=30)
        case RateLimited():
            return _retry_after(error.retry_after_ms, most_s=60)
        case Unauthorized():
            return {"WWW-Authenticate": "Bearer"}
    return {}


def _retry_after(wait_ms: int, *, most_s: int) -> dict[str, str]:
    seconds = min(max(math.ceil(wait_ms / 1000), 1), most_s)
    return {"Retry-After": str(seconds), "retry-after-ms": str(wait_ms)}


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
