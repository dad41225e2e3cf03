"""Where the time of one answer went: in the server, as ``Server-Timing`` tells, and on the way."""

from __future__ import annotations

import re
from dataclasses import dataclass

_METRIC = re.compile(r"([a-z]+)\s*;\s*dur=([0-9.]+)")


@dataclass(frozen=True, slots=True)
class ServerTimes:
    """What the server said, in milliseconds since it had the request.

    ``first_ms`` and ``total_ms`` (all sound made) hold the queue; ``playback_ms`` came after
    ``total_ms``. None is what was not waited for.
    """

    queue_ms: float
    first_ms: float
    total_ms: float | None = None
    playback_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Breakdown:
    """The parts of the wait for an answer; their sum is the wait.

    ``network_ms`` is what the server did not count: the connection, HTTP, reading and writing.
    """

    queue_ms: float
    inference_ms: float
    playback_ms: float
    network_ms: float


def server_times(header: str | None) -> ServerTimes | None:
    """The value of ``Server-Timing`` (W3C), or None where it does not hold our figures."""
    named = dict(_METRIC.findall(header or ""))
    try:
        told = {name: float(value) for name, value in named.items()}
    except ValueError:
        return None
    if "queue" not in told or "first" not in told:
        return None
    return ServerTimes(told["queue"], told["first"], told.get("total"), told.get("playback"))


def break_down(waited_ms: float, server: ServerTimes) -> Breakdown:
    """The parts of a wait of ``waited_ms`` since the request was sent."""
    made_ms = server.first_ms if server.total_ms is None else server.total_ms
    playback_ms = server.playback_ms or 0.0
    return Breakdown(
        queue_ms=server.queue_ms,
        inference_ms=max(0.0, made_ms - server.queue_ms),
        playback_ms=playback_ms,
        network_ms=max(0.0, waited_ms - made_ms - playback_ms),
    )
