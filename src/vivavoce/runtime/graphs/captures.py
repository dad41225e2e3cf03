"""The captures of one kind of work by bucket, with the plain way for what is not captured."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from subprocess import SubprocessError
from typing import Generic, TypeVar

from vivavoce.runtime.device_errors import is_out_of_memory
from vivavoce.runtime.graphs.api import CaptureFailed, GraphApi, Replay, StaticTensors, Work

log = logging.getLogger(__name__)

Key = TypeVar("Key", bound=Hashable)
Memory = TypeVar("Memory")


def _failures() -> tuple[type[Exception], ...]:
    """Triton's errors are no RuntimeError, nor are those of the C compiler that it calls."""
    usual = (RuntimeError, SubprocessError, OSError)
    if find_spec("triton") is None:
        return usual
    from triton.errors import TritonError

    return (*usual, TritonError)


FAILURES = _failures()
"""What work for a device raises where the device, a compiler or a library will not have it."""


class Pool(Generic[Memory]):
    """Who holds it need not know which memory is behind it.

    What fails while it is recorded may leave a device recording to that memory for ever, and what
    fails in a warm-up may leave memory that nobody holds. What is captured later has fresh memory,
    and what was captured before keeps the old.
    """

    def __init__(self, make: Callable[[], Memory]) -> None:
        self._make = make
        self.memory = make()

    @contextmanager
    def recording(self) -> Iterator[Memory]:
        """The memory, for what is warmed up and recorded in here: nothing else is to be in here."""
        try:
            yield self.memory
        except BaseException:
            self.memory = self._make()
            raise


@dataclass(frozen=True, slots=True)
class Job(Generic[Key]):
    """Work to be captured; larger ``size`` comes first, so that the pool is made once."""

    key: Key
    size: int
    work: Work


@dataclass(slots=True)
class Counts:
    """What became of it, for metrics: captures made and failed, runs replayed and plain."""

    captured: int = 0
    failed: int = 0
    replayed: int = 0
    eager: int = 0


class Captures(Generic[Key]):
    """Captures of one pool, and so replayed on one stream only."""

    def __init__(
        self, name: str, api: GraphApi, statics: StaticTensors, pool: object | None = None
    ) -> None:
        """``pool``: that of other captures of the same stream, else a new one."""
        self.name = name
        self.counts = Counts()
        self.pool = api.pool() if pool is None else pool
        self._api, self._statics = api, statics
        self._replays: dict[Key, Replay] = {}

    def warm(self, jobs: Iterable[Job[Key]]) -> None:
        """Capture, largest first. One that fails is counted, and runs eagerly from then on.

        Where memory is short it is tried once more, with all that is kept without use given back.
        Nothing that the work changes may be in use. The first failure is logged as a warning.
        """
        for job in sorted(jobs, key=lambda each: -each.size):
            try:
                replay = self._captured(job)
            except CaptureFailed as error:
                self._failed(error)
                continue
            self._replays[job.key] = replay
            self.counts.captured += 1

    def _captured(self, job: Job[Key]) -> Replay:
        name = f"{self.name} {job.key}"
        try:
            return self._api.capture(name, job.work, self._statics, self.pool)
        except CaptureFailed as error:
            if not _lacked_memory(error):
                raise
            log.warning("no memory on the device to capture %s, once more", name)
        # The error is gone by now, and with it the frames that held what the work had made so far.
        self._api.make_room()
        return self._api.capture(name, job.work, self._statics, self.pool)

    def run(self, key: Key, work: Work) -> bool:
        """Replay what was captured for ``key``, else do ``work``; whether it was a replay."""
        replay = self._replays.get(key)
        if replay is None:
            self.counts.eager += 1
            work()
            return False
        self.counts.replayed += 1
        replay()
        return True

    def holds(self, key: Key) -> bool:
        """Whether it was captured."""
        return key in self._replays

    @property
    def keys(self) -> tuple[Key, ...]:
        """What was captured, in order."""
        return tuple(self._replays)

    @property
    def size_bytes(self) -> int:
        """Memory of the device that all captures took."""
        return sum(replay.size_bytes for replay in self._replays.values())

    def told(self) -> dict[str, int]:
        """What became of it, as an engine's details have it."""
        return {f"graphs_{name}": value for name, value in asdict(self.counts).items()}

    def release(self) -> None:
        """Give all of them back; what runs after that runs eagerly."""
        for replay in self._replays.values():
            replay.release()
        self._replays.clear()

    def _failed(self, error: CaptureFailed) -> None:
        self.counts.failed += 1
        if self.counts.failed == 1:
            log.warning("Capture failed, running without: %s", error.message)


def _lacked_memory(error: BaseException | None) -> bool:
    """Whether it all began with that: the end of a capture may then fail in words of its own."""
    while error is not None and not is_out_of_memory(error):
        error = error.__cause__ or error.__context__
    return error is not None
