"""What was spoken for each key: in the metrics, and as CSV from ``GET /v1/usage``."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Counter

from vivavoce.errors import NotFound
from vivavoce.key_table import MAX_KEYS
from vivavoce.serving.callers import ANONYMOUS, caller_name
from vivavoce.serving.context import context_of
from vivavoce.serving.problems import documented
from vivavoce.types import Timings

OTHERS = "(others)"
"""For keys that come and go while the server runs, beyond twice as many as there may be at once."""

COLUMNS = ("key", "requests", "characters", "seconds")

router = APIRouter(tags=["health"])


@dataclass(slots=True)
class Spoken:
    """Requests that were heard at least in part, their characters, and the sound they were sent."""

    requests: int = 0
    characters: int = 0
    seconds: float = 0.0


class Usage:
    """Sums since the start, by the caller's key."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._sums: dict[str, Spoken] = {}
        self._requests = Counter(
            "tts_key_requests", "Requests heard, by key.", ["key"], registry=registry
        )
        self._characters = Counter(
            "tts_key_characters",
            "Characters of requests heard, by key.",
            ["key"],
            registry=registry,
        )
        self._seconds = Counter(
            "tts_key_audio_seconds", "Seconds of sound delivered, by key.", ["key"],
            registry=registry,
        )  # fmt: skip

    def add(self, timings: Timings) -> None:
        """Count a request of the caller in whose context this is called, as it ended."""
        if timings.audio_s <= 0:
            return
        name = caller_name()
        if name not in self._sums and len(self._sums) >= 2 * MAX_KEYS:
            name = OTHERS
        spoken = self._sums.setdefault(name, Spoken())
        spoken.requests += 1
        spoken.characters += timings.characters
        spoken.seconds += timings.audio_s
        self._requests.labels(key=name).inc()
        self._characters.labels(key=name).inc(timings.characters)
        self._seconds.labels(key=name).inc(timings.audio_s)

    def table(self, names: list[str]) -> str:
        """CSV with a header: first ``names``, then whoever else has spoken."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow(COLUMNS)
        for name in dict.fromkeys((*names, *sorted(self._sums))):
            spoken = self._sums.get(name, Spoken())
            writer.writerow((name, spoken.requests, spoken.characters, f"{spoken.seconds:.3f}"))
        return text.getvalue()


@router.get(
    "/v1/usage",
    summary="What was spoken, by key",
    response_class=Response,
    responses={
        200: {
            "description": "Sums since this process began.",
            "content": {"text/csv": {"schema": {"type": "string"}}},
        },
        **documented(404),
    },
)
async def usage(request: Request) -> Response:
    """CSV: ``key,requests,characters,seconds``. Takes a key with ``admin`` where there are keys."""
    context = context_of(request)
    counted = getattr(context.service.observer, "usage", None)
    if not isinstance(counted, Usage):
        raise NotFound("Nothing is counted here.")
    names = [key.name for key in context.ring.keys] if context.ring.locked else [ANONYMOUS]
    return Response(counted.table(names), media_type="text/csv; charset=utf-8; header=present")
