"""One utterance as its consumer sees it, and what its consumer can ask of the engine's thread.

An ``UtteranceStream`` lives in the event loop that opened it. The engine's thread hands it what
was produced (``hand_off``: one call into each event loop for a whole step), and it sends commands
back: more text, or that its slot is to be freed.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from vivavoce.engines.base import Produced
from vivavoce.errors import SlowConsumer, VivavoceError
from vivavoce.types import FinishReason, Utterance

MAX_BUFFERED_BYTES = 14 * 1024 * 1024
"""Sound that one utterance may have waiting for its consumer: 150 s at 24,000 Hz."""


class Owner(Protocol):
    """The engine's loop, as far as a stream needs it; ``buffered_bytes`` is of all streams."""

    buffered_bytes: int

    def command(self, command: StreamCommand) -> None:
        """Queue a command for the engine's thread."""


class UtteranceStream:
    """What one utterance produces, in order; an async iterator that must be closed.

    Lives in the event loop that opened it. ``on_finished`` is called there once, when the engine
    has produced the last of it (which may be long before it is consumed).
    """

    def __init__(self, owner: Owner, utterance: Utterance) -> None:
        self.utterance = utterance
        self.finish_reason: FinishReason | None = None
        self.on_finished: Callable[[], None] | None = None
        self.event_loop = asyncio.get_running_loop()
        self._owner = owner
        self._waiting: collections.deque[Produced] = collections.deque()
        self._arrived = asyncio.Event()
        self._error: VivavoceError | None = None
        self._closed = False
        self._buffered_bytes = 0

    @property
    def finished(self) -> bool:
        """Whether the engine has produced all it will."""
        return self.finish_reason is not None

    @property
    def waiting_bytes(self) -> int:
        """Sound that was produced and not taken yet."""
        return self._buffered_bytes

    def __aiter__(self) -> UtteranceStream:
        return self

    async def __anext__(self) -> Produced:
        """The next piece. Raises the slot's own error, or StopAsyncIteration at the end."""
        while not self._waiting:
            if self._error is not None:
                raise self._error
            if self.finished or self._closed:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        produced = self._waiting.popleft()
        self._count(-produced.samples.nbytes)
        return produced

    def extend(self, text: str) -> None:
        """Append text to an utterance opened with ``text_open``."""
        self._owner.command(Extend(self, text))

    def finish_text(self) -> None:
        """No more text comes."""
        self._owner.command(FinishText(self))

    def close(self) -> None:
        """Stop: drop what waits and free the slot before the engine's next step. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._waiting.clear()
        self._count(-self._buffered_bytes)
        self._arrived.set()
        if not self.finished:
            self.finish_reason = "cancelled"
            self._owner.command(Release(self, time.monotonic()))

    def deliver(self, produced: Produced) -> None:
        """Take one piece (called in the event loop by the hand-off)."""
        if self._closed or self.finished:
            return
        self._waiting.append(produced)
        self._count(produced.samples.nbytes)
        if produced.error is not None:
            self._end("error", produced.error)
        elif produced.last:
            self._end(produced.finish_reason or "stop", None)
        elif self._buffered_bytes > MAX_BUFFERED_BYTES:
            self._owner.command(Release(self, time.monotonic()))
            self._end("error", SlowConsumer("The consumer reads slower than the engine speaks."))
        self._arrived.set()

    def fail(self, error: VivavoceError) -> None:
        """End with an error (called in the event loop)."""
        if not self.finished:
            self._end("error", error)
            self._arrived.set()

    def _count(self, change_bytes: int) -> None:
        self._buffered_bytes += change_bytes
        self._owner.buffered_bytes += change_bytes

    def _end(self, reason: FinishReason, error: VivavoceError | None) -> None:
        self.finish_reason, self._error = reason, error
        if self.on_finished is not None:
            self.on_finished()


@dataclass(frozen=True, slots=True)
class Open:
    """A stream wants a slot."""

    stream: UtteranceStream


@dataclass(frozen=True, slots=True)
class Extend:
    """More text for a stream."""

    stream: UtteranceStream
    text: str


@dataclass(frozen=True, slots=True)
class FinishText:
    """No more text comes for a stream."""

    stream: UtteranceStream


@dataclass(frozen=True, slots=True)
class Release:
    """A stream was closed at ``closed_at_s`` (monotonic clock): its slot is to be freed."""

    stream: UtteranceStream
    closed_at_s: float


StreamCommand: TypeAlias = Open | Extend | FinishText | Release


def failed(error: VivavoceError) -> Produced:
    """The last piece of an utterance that ends with an error."""
    return Produced(-1, np.zeros(0, np.float32), last=True, finish_reason="error", error=error)


def hand_off(batch: Iterable[tuple[UtteranceStream, Produced]]) -> None:
    """Give a step's output to its consumers: one call into each event loop."""
    by_loop = itertools.groupby(
        sorted(batch, key=lambda item: id(item[0].event_loop)),
        key=lambda item: item[0].event_loop,
    )
    for event_loop, items in by_loop:
        # A loop that closed meanwhile took its consumers with it.
        with contextlib.suppress(RuntimeError):
            event_loop.call_soon_threadsafe(_deliver, list(items))


def _deliver(batch: list[tuple[UtteranceStream, Produced]]) -> None:
    for stream, produced in batch:
        stream.deliver(produced)
