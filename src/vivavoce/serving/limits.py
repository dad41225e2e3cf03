"""Body size limits, enforced while a body arrives rather than after it was read."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vivavoce.errors import BodyTooLarge, VivavoceError
from vivavoce.serving.bodies import (
    OWN_BYTES,
    PLAIN_BYTES,
    UPLOAD_BYTES,
    UPLOADS_AT_ONCE,
    Body,
    BodySpace,
)
from vivavoce.serving.problems import problem_response


class BodyLimits:
    """At most ``max_upload_bytes`` of multipart, ``max_body_bytes`` of anything else.

    Of all requests together no more than there is room for in ``bodies.py``, or one of the largest.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int, max_upload_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._max_upload_bytes = max_upload_bytes
        self.plain = BodySpace(max(PLAIN_BYTES, max_body_bytes), own_bytes=OWN_BYTES)
        self.uploads = BodySpace(max(UPLOAD_BYTES, max_upload_bytes), UPLOADS_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        multipart = headers.get("content-type", "").lower().startswith("multipart/")
        limit = self._max_upload_bytes if multipart else self._max_body_bytes
        try:
            _check_stated(headers, limit)
            body = (self.uploads if multipart else self.plain).enter()
        except VivavoceError as error:
            # The body is not wanted, so the connection is of no further use.
            await problem_response(error, {"Connection": "close"})(scope, receive, send)
            return
        try:
            await self._app(scope, _counted(receive, limit, body), send)
        finally:
            body.leave()


def _check_stated(headers: Headers, limit: int) -> None:
    stated = headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > limit:
        raise _too_large(limit)


def _counted(receive: Receive, limit: int, body: Body) -> Receive:
    """``receive``, raising BodyTooLarge or TooManyBodies once more than there may be has come."""

    async def counted() -> Message:
        message = await receive()
        size = len(message.get("body", b""))
        if body.size + size > limit:
            raise _too_large(limit)
        body.take(size)
        return message

    return counted


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request body is larger than {limit} bytes.")
