"""Whom to ask, and what every client can do."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from vivavoce.bench.heard import Failure, Measure, Recorder

Transport: TypeAlias = Literal["http", "ws"]

DEFAULT_PATHS: Mapping[Transport, str] = {
    "http": "/v1/audio/speech",
    "ws": "/v1/audio/speech/ws",
}
OPENAI_PCM_RATE_HZ = 24_000
"""What ``pcm`` means where nothing else is said (OpenAI's audio-speech contract)."""

_BUSY_CODES = ("busy", "queue_full", "rate_limit_exceeded")

now_s = time.monotonic


@dataclass(frozen=True, slots=True)
class Target:
    """A server and how it is asked. ``path`` None means the usual one of the transport.

    ``seed`` and the engine's own ``options`` go with every request, where there are any.
    """

    url: str = "http://127.0.0.1:8000"
    transport: Transport = "http"
    path: str | None = None
    response_format: Literal["pcm", "wav"] = "pcm"
    sample_rate_hz: int | None = None
    voice: str | None = None
    model: str | None = None
    api_key: str | None = field(default=None, repr=False)
    timeout_s: float = 60.0
    seed: int | None = None
    options: Mapping[str, Any] | None = None

    @property
    def endpoint(self) -> str:
        """The whole address, with the scheme of the transport."""
        address = self.url.rstrip("/") + (self.path or DEFAULT_PATHS[self.transport])
        if self.transport == "ws" and address.startswith("http"):
            return "ws" + address.removeprefix("http")
        return address

    @property
    def headers(self) -> dict[str, str]:
        """What goes with every request."""
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}

    def payload(self, text: str) -> dict[str, Any]:
        """The request for one text; what was not asked for is left to the server."""
        fields = {
            "input": text,
            "voice": self.voice,
            "model": self.model,
            "sample_rate": self.sample_rate_hz,
            "seed": self.seed,
            "options": self.options,
        }
        return {name: value for name, value in fields.items() if value is not None}


class Speaker(Protocol):
    """Speaks texts, many at once if asked to. Failures are measured, not raised."""

    async def speak(self, text: str, recorder: Recorder) -> Measure:
        """Ask for one text, feed the recorder with what comes, and return its measure."""
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...


def failure_from(
    body: Any, *, status: int | None = None, headers: Mapping[str, str] | None = None
) -> Failure:
    """What an error answer says: OpenAI's envelope, or a WebSocket ``error`` event.

    ``retry-after-ms`` wins over ``Retry-After``, which is in whole seconds.
    """
    fields = _error_fields(body)
    code = str(fields.get("code") or fields.get("type") or _code_of(status))
    if status is None:
        status = fields.get("status") or (429 if code in _BUSY_CODES else None)
    message = str(fields.get("message") or fields.get("detail") or "")
    return Failure(code, status, _retry_after_ms(fields, headers or {}), message)


def _error_fields(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        return {}
    inner = body.get("error")
    return inner if isinstance(inner, dict) else body


def _code_of(status: int | None) -> str:
    return f"http_{status}" if status else "error"


def _retry_after_ms(fields: Mapping[str, Any], headers: Mapping[str, str]) -> float | None:
    stated = headers.get("retry-after-ms") or fields.get("retry_after_ms")
    seconds = headers.get("retry-after")
    try:
        if stated is not None:
            return float(stated)
        return float(seconds) * 1000 if seconds is not None else None
    except (TypeError, ValueError):
        return None
