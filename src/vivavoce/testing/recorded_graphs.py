"""A stand-in for a device that captures, on the CPU, for checks where there is no such device.

Replays run the recorded operations, never the Python that made them. Streams other than ``main``
do nothing until somebody waits for them: what is read too early is still old. With ``eager`` they
do everything at once: what is overwritten too early is lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import torch

from vivavoce.runtime.device_errors import is_lost
from vivavoce.runtime.graphs.api import (
    CaptureFailed,
    Event,
    HostBuffer,
    ResourceCounts,
    StaticTensors,
    Stream,
    Work,
)
from vivavoce.runtime.graphs.captures import FAILURES, Pool
from vivavoce.testing.tape import Tape, record

POLLS = 2
"""How often an event says "not yet" before it is done."""


class RecordedStream:
    """A queue of work; lazy ones run when they are waited for."""

    def __init__(self, owner: RecordingGraphs, name: str, *, lazy: bool) -> None:
        self.name, self.lazy = name, lazy
        self.sent = self.ran = 0
        self._owner = owner
        self._queue: deque[Work] = deque()

    def run(self, work: Work) -> None:
        """Put on the queue."""
        self._queue.append(work)
        self.sent += 1
        if not self.lazy:
            self.drain(self.sent)

    def wait(self, event: Event) -> None:
        """Come behind an event as it is now: where it is recorded again, that is another one."""
        assert isinstance(event, RecordedEvent)
        self.run(event.reached())

    def synchronize(self) -> None:
        """Run all of it."""
        self.drain(self.sent)

    def drain(self, mark: int) -> None:
        """Run what was sent before ``mark``."""
        while self.ran < mark:
            self.ran += 1
            outer, self._owner.running = self._owner.running, self
            try:
                self._queue.popleft()()
            finally:
                self._owner.running = outer


class RecordedEvent:
    """A mark in a ``RecordedStream``."""

    def __init__(self) -> None:
        self._stream: RecordedStream | None = None
        self._mark = self._polls = 0

    def record(self, stream: Stream) -> None:
        """Behind what was sent so far."""
        assert isinstance(stream, RecordedStream)
        self._stream, self._mark, self._polls = stream, stream.sent, 0

    def done(self) -> bool:
        """Not before it was asked for a few times, unless somebody waited."""
        if self._stream is None or self._stream.ran >= self._mark:
            return True
        self._polls += 1
        if self._polls > POLLS:
            self.wait()
        return self._polls > POLLS

    def wait(self) -> None:
        """Run the stream up to the mark."""
        self.reached()()

    def reached(self) -> Work:
        """What runs the stream up to where the mark is now."""
        stream, mark = self._stream, self._mark
        return lambda: None if stream is None else stream.drain(mark)


@dataclass(slots=True)
class RecordedMemory:
    """Which stream its replays ran on, whether it is recorded to, and what warmed up in it."""

    stream: RecordedStream | None = None
    recording: bool = False
    warmed: list[str] = field(default_factory=list)


RecordedPool: TypeAlias = Pool[RecordedMemory]


class RecordedReplay:
    """A tape."""

    def __init__(
        self,
        owner: RecordingGraphs,
        name: str,
        tape: Tape,
        statics: StaticTensors,
        memory: RecordedMemory,
    ) -> None:
        self.name, self.size_bytes, self.operations = name, tape.size_bytes, len(tape.calls)
        self._owner, self._statics, self._memory = owner, statics, memory
        self._tape: Tape | None = tape
        owner.account.graph(1, self.size_bytes)

    def __call__(self) -> None:
        """Play it. Raises CaptureFailed for what a device would do wrong without a word."""
        if self._tape is None:
            raise CaptureFailed(f"{self.name}: replayed after its release.")
        if self._statics.moved():
            raise CaptureFailed(f"{self.name}: a tensor is not where it was.")
        running = self._owner.running
        if self._memory.stream not in (None, running):
            raise CaptureFailed(f"{self.name}: its pool is used on two streams.")
        self._memory.stream = running
        self._owner.replays.append(self.name)
        self._tape.play()

    def release(self) -> None:
        """Forget it."""
        if self._tape is not None:
            self._tape = None
            self._owner.account.graph(-1, self.size_bytes)


class RecordingGraphs:
    """``GraphApi`` without a device.

    ``refuses`` says by its name which capture fails; ``pins`` False has no pinned memory.
    ``captured`` and ``replays`` are names in order, ``rooms`` how often room was made.
    """

    def __init__(
        self,
        *,
        eager: bool = False,
        pins: bool = True,
        refuses: Callable[[str], bool] = lambda name: False,
    ) -> None:
        self.account = ResourceCounts()
        self.captured: list[str] = []
        self.rooms = 0
        self.replays: deque[str] = deque(maxlen=10_000)
        self._eager, self._pins, self._refuses = eager, pins, refuses
        main = RecordedStream(self, "main", lazy=False)
        self.running = main
        self.main: Stream = main

    def enter(self) -> None:
        """Nothing to set up."""

    def stream(self, name: str, *, urgent: bool = False) -> RecordedStream:
        """One more queue."""
        return RecordedStream(self, name, lazy=not self._eager)

    def event(self) -> RecordedEvent:
        """One more mark."""
        return RecordedEvent()

    def pool(self, *, urgent: bool = False) -> RecordedPool:
        """Memory for captures, freed with the last of them; both kinds are the same here."""
        return Pool(RecordedMemory)

    def capture(
        self, name: str, work: Work, statics: StaticTensors, pool: RecordedPool
    ) -> RecordedReplay:
        """Run once to warm up, then record. Raises CaptureFailed, or that the device is lost."""
        try:
            with pool.recording() as memory:
                work()
                memory.warmed.append(name)
                tape = self._record(name, work, statics, memory)
        except FAILURES as error:
            if is_lost(error):
                raise
            raise CaptureFailed(f"{name}: {error}") from error
        self.captured.append(name)
        return RecordedReplay(self, name, tape, statics, memory)

    def _record(
        self, name: str, work: Work, statics: StaticTensors, memory: RecordedMemory
    ) -> Tape:
        """Where this fails, the memory stays of no use, as it may on a device."""
        if memory.recording:
            raise CaptureFailed(f"{name}: already recording to its pool's memory.")
        memory.recording = True
        if self._refuses(name):
            raise CaptureFailed(f"{name}: refused.")
        tape = record(name, work, statics)
        memory.recording = False
        return tape

    def make_room(self) -> None:
        """Count it."""
        self.rooms += 1

    def host_buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> HostBuffer:
        """Memory, said to be pinned."""
        buffer = HostBuffer(torch.zeros(shape, dtype=dtype), self._pins)
        self.account.host(1, buffer.tensor.nbytes)
        return buffer

    def give_back(self, buffer: HostBuffer) -> None:
        """Count it."""
        self.account.host(-1, buffer.tensor.nbytes)
