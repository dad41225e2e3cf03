"""How long it takes to say no: timed where the answer is made, not where it is read.

From the end of a request's body to the end of its answer, for every ``429``. Our server stamps the
end of the body as it comes off the wire; elsewhere it is when the application has read it.
"""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vivavoce.speech.observer import SpeechObserver

BODY_ENDED = "vivavoce.body_ended_s"
"""ASGI extension of our server: when the whole request was there, on the monotonic clock."""

TOO_MANY = 429


class RejectTimes:
    """Tells the observer of each request that was turned away, and how long that took."""

    def __init__(self, app: ASGIApp, observer: SpeechObserver) -> None:
        self._app = app
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        read_s, rejected = time.monotonic(), False

        async def reading() -> Message:
            nonlocal read_s
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                read_s = time.monotonic()
            return message

        async def answering(message: Message) -> None:
            nonlocal rejected
            if message["type"] == "http.response.start":
                rejected = message["status"] == TOO_MANY
            await send(message)
            if rejected and not message.get("more_body", False) and "body" in message:
                ended_s = (scope.get("extensions") or {}).get(BODY_ENDED, read_s)
                self._observer.rejected(time.monotonic() - ended_s)

        await self._app(scope, reading, answering)
