"""The one engine thread: commands in, one batched hand-off out per step.

``EngineLoop`` owns an engine and is the only one to call it. Coroutines open an
``UtteranceStream`` and iterate over it; closing the stream is the only form of cancel, and takes
effect before the engine's next step. After every step the thread hands what was produced to each
event loop with a single ``call_soon_threadsafe``.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from vivavoce.engines.base import Engine, Produced
from vivavoce.errors import Cancelled, EngineFailed, SlowConsumer, VivavoceError
from vivavoce.types import FinishReason, Utterance

log = logging.getLogger(__name__)

MAX_BUFFERED_BYTES = 14 * 1024 * 1024
"""Sound that one utterance may have waiting for its consumer: 150 s at 24,000 Hz."""


class LoopObserver(Protocol):
    """What the loop reports about itself; called on the engine thread, must be quick."""

    def stepped(self, duration_s: float, live: int) -> None:
        """A step took ``duration_s`` with ``live`` utterances in slots."""

    def released(self, waited_s: float) -> None:
        """A closed stream's slot became free ``waited_s`` after the close."""


class _Silent:
    def stepped(self, duration_s: float, live: int) -> None:
        pass

    def released(self, waited_s: float) -> None:
        pass


class UtteranceStream:
    """What one utterance produces, in order; an async iterator that must be closed.

    Lives in the event loop that opened it. ``on_finished`` is called there once, when the engine
    has produced the last of it (which may be long before it is consumed).
    """

    def __init__(self, owner: EngineLoop, utterance: Utterance) -> None:
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
        self._owner.command(_Extend(self, text))

    def finish_text(self) -> None:
        """No more text comes."""
        self._owner.command(_FinishText(self))

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
            self._owner.command(_Release(self, time.monotonic()))

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
            self._owner.command(_Release(self, time.monotonic()))
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
class _Open:
    stream: UtteranceStream


@dataclass(frozen=True, slots=True)
class _Extend:
    stream: UtteranceStream
    text: str


@dataclass(frozen=True, slots=True)
class _FinishText:
    stream: UtteranceStream


@dataclass(frozen=True, slots=True)
class _Release:
    stream: UtteranceStream
    closed_at_s: float


@dataclass(frozen=True, slots=True)
class _Call:
    """Something to run on the engine thread between steps (load, unload)."""

    function: Callable[[], None]
    done: Future[None] = field(default_factory=Future)


_Command = _Open | _Extend | _FinishText | _Release | _Call


class EngineLoop:
    """Runs an engine on its own thread until ``stop``."""

    def __init__(self, engine: Engine, observer: LoopObserver | None = None) -> None:
        self.engine = engine
        self.failure: EngineFailed | None = None
        self.buffered_bytes = 0  # of all streams; kept in their event loop
        self._observer = observer or _Silent()
        self._commands: collections.deque[_Command] = collections.deque()
        self._wake = threading.Event()
        self._stopping = False
        self._slots: dict[int, UtteranceStream] = {}
        self._slot_of: dict[int, int] = {}
        self._queued: collections.deque[UtteranceStream] = collections.deque()
        self._step_began_s: float | None = None
        self._thread = threading.Thread(target=self._run, name="vivavoce-engine", daemon=True)

    def start(self) -> None:
        """Start the thread. The engine is not loaded by this."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End the thread; live streams fail with Cancelled."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    @property
    def live(self) -> int:
        """Utterances in slots or waiting for one."""
        return len(self._slots) + len(self._queued)

    def stuck_s(self) -> float:
        """How long the step in progress has been running; 0 between steps."""
        began_s = self._step_began_s
        return 0.0 if began_s is None else time.monotonic() - began_s

    def alive(self, max_step_s: float) -> bool:
        """Whether the thread runs and has not been in one step for longer than ``max_step_s``."""
        return self._thread.is_alive() and self.stuck_s() < max_step_s

    def call(self, function: Callable[[], None]) -> Future[None]:
        """Run something on the engine thread between two steps."""
        call = _Call(function)
        self.command(call)
        return call.done

    def open(self, utterance: Utterance) -> UtteranceStream:
        """Start an utterance; call from a running event loop. Raises EngineFailed."""
        if self.failure is not None:
            raise self.failure
        stream = UtteranceStream(self, utterance)
        self.command(_Open(stream))
        return stream

    def command(self, command: _Command) -> None:
        """Queue a command for the engine thread."""
        self._commands.append(command)
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait()
            self._wake.clear()
            while self._turn():
                pass
        self._abandon(Cancelled("The server is stopping."))

    def _turn(self) -> bool:
        """One turn: obey commands, fill free slots, step. False when there is nothing to do."""
        if self._stopping:
            return False
        if self.failure is not None:
            self._abandon(self.failure)
            return False
        try:
            self._obey()
            self._fill()
            if not self._slots:
                return bool(self._commands)
            self._step()
        except Exception as error:  # noqa: BLE001 - boundary: whatever an engine may raise
            self._fail(error)
            return False
        return True

    def _obey(self) -> None:
        while self._commands:
            command = self._commands.popleft()
            match command:
                case _Open(stream):
                    self._queued.append(stream)
                case _Release(stream, closed_at_s):
                    self._release(stream, closed_at_s)
                case _Extend(stream, text) if (slot := self._slot_of.get(id(stream))) is not None:
                    self.engine.extend(slot, text)
                case _FinishText(stream) if (slot := self._slot_of.get(id(stream))) is not None:
                    self.engine.finish(slot)
                case _Call(function, done):
                    _answer(function, done)

    def _fill(self) -> None:
        while self._queued and len(self._slots) < self.engine.capacity:
            stream = self._queued.popleft()
            try:
                slot = self.engine.admit(stream.utterance)
            except VivavoceError as error:
                _hand_off([(stream, _failed(error))])
            else:
                self._slots[slot] = stream
                self._slot_of[id(stream)] = slot

    def _release(self, stream: UtteranceStream, closed_at_s: float) -> None:
        slot = self._slot_of.get(id(stream))
        if slot is not None:
            self.engine.release(slot)
            self._forget(slot)
            self._observer.released(time.monotonic() - closed_at_s)
        elif stream in self._queued:
            self._queued.remove(stream)

    def _forget(self, slot: int) -> UtteranceStream:
        stream = self._slots.pop(slot)
        del self._slot_of[id(stream)]
        return stream

    def _step(self) -> None:
        live = len(self._slots)
        self._step_began_s = began_s = time.monotonic()
        produced = self.engine.step()
        self._step_began_s = None
        if produced:
            self._observer.stepped(time.monotonic() - began_s, live)
        _hand_off([(self._stream_of(piece), piece) for piece in produced])

    def _stream_of(self, piece: Produced) -> UtteranceStream:
        if piece.last or piece.error is not None:
            return self._forget(piece.slot)
        return self._slots[piece.slot]

    def _fail(self, error: Exception) -> None:
        log.exception("The engine failed", exc_info=error)
        self._step_began_s = None
        self.failure = EngineFailed(f"The engine failed: {error}")
        self._abandon(self.failure)

    def _abandon(self, error: VivavoceError) -> None:
        orphans = [*self._slots.values(), *self._queued]
        orphans += [command.stream for command in self._commands if isinstance(command, _Open)]
        for command in self._commands:
            if isinstance(command, _Call):
                command.done.set_exception(error)
        self._slots.clear()
        self._slot_of.clear()
        self._queued.clear()
        self._commands.clear()
        _hand_off([(stream, _failed(error)) for stream in orphans])


def _answer(function: Callable[[], None], done: Future[None]) -> None:
    if not done.set_running_or_notify_cancel():
        return
    try:
        function()
    except Exception as error:  # noqa: BLE001 - boundary: the caller of done gets it
        done.set_exception(error)
    else:
        done.set_result(None)


def _failed(error: VivavoceError) -> Produced:
    return Produced(-1, np.zeros(0, np.float32), last=True, finish_reason="error", error=error)


def _hand_off(batch: Iterable[tuple[UtteranceStream, Produced]]) -> None:
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
