"""Body size limits, enforced while a body arrives rather than after it was read."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vivavoce.errors import BodyTooLarge
from vivavoce.serving.problems import problem_response


class BodyLimits:
    """At most ``max_upload_bytes`` of multipart, ``max_body_bytes`` of anything else."""

    def __init__(self, app: ASGIApp, max_body_bytes: int, max_upload_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit = self._limit_bytes(headers)
        stated = headers.get("content-length", "")
        if stated.isdecimal() and int(stated) > limit:
            # The body is not wanted, so the connection is of no further use.
            await problem_response(_too_large(limit), {"Connection": "close"})(scope, receive, send)
            return
        await self._app(scope, _counted(receive, limit), send)

    def _limit_bytes(self, headers: Headers) -> int:
        multipart = headers.get("content-type", "").lower().startswith("multipart/")
        return self._max_upload_bytes if multipart else self._max_body_bytes


def _counted(receive: Receive, limit: int) -> Receive:
    """``receive``, raising BodyTooLarge once more than ``limit`` bytes have come."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise _too_large(limit)
        return message

    return counted


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request body is larger than {limit} bytes.")
