"""What an old server makes of requests, and how it words its answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from fastapi import APIRouter

Fields: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Voices:
    """The names that resolve here, and the one for who names none; None is the engine's own."""

    names: Collection[str]
    chosen: str | None = None

    def known(self, name: str) -> str | None:
        """The voice of that name, in whatever case; None where there is none."""
        if name in self.names:
            return name
        return name.lower() if name.lower() in self.names else None


@dataclass(frozen=True, slots=True)
class OldError:
    """An error as an old server tells it."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class OldServer:
    """One of them.

    ``fields`` have, for each path with a JSON body and for each WebSocket, what becomes of a
    request's fields. ``path`` is where a request to a path goes. ``error`` words an error from its
    status, path and ``ErrorDetail``; None leaves it as it is. ``headers`` are what an answer of a
    path has besides, from its Content-Type. Events of ``silent_events`` do not reach a WebSocket.
    ``router`` has routes that go before ours.
    """

    fields: Mapping[str, Callable[[Fields, Voices], Fields]]
    path: Callable[[str, str], str] = lambda method, path: path
    error: Callable[[int, str, Mapping[str, Any]], OldError] | None = None
    headers: Callable[[str, str], Mapping[str, str]] = lambda path, media_type: {}
    silent_events: frozenset[str] = frozenset()
    router: APIRouter | None = None


def given(fields: Fields) -> Fields:
    """The fields without null, which meant "not given"."""
    return {name: value for name, value in fields.items() if value is not None}
