"""The one engine thread: commands in, one batched hand-off out per step.

``EngineLoop`` owns an engine and is the only one to call it. Coroutines open an
``UtteranceStream`` and iterate over it; closing the stream is the only form of cancel, and takes
effect before the engine's next step. After every step the thread hands what was produced to each
event loop with a single ``call_soon_threadsafe``.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Protocol, TypeAlias

from vivavoce.engines.base import Engine, Produced
from vivavoce.engines.guarded import FAULT, GuardedEngine, is_sound, report_fault
from vivavoce.engines.stream import (
    Extend,
    FinishText,
    Open,
    Release,
    StreamCommand,
    UtteranceStream,
    failed,
    hand_off,
)
from vivavoce.engines.verdict import Verdict
from vivavoce.engines.watch import Activity, Call, TimeLimits, starting_now
from vivavoce.errors import Cancelled, EngineError, EngineFailed, VivavoceError
from vivavoce.runtime.device_errors import LOST
from vivavoce.types import Utterance

log = logging.getLogger(__name__)

STEP_FAILED = "A step of the engine failed; the server's log says more."
NOBODYS_SLOT = "A step of the engine answered for a slot that nobody has."
STOPPING = "The server is stopping."


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


_Command: TypeAlias = StreamCommand | Call


class EngineLoop:
    """Runs an engine on its own thread until ``stop``.

    Only an exception out of ``step`` (or a slot number in what it returns that nobody has, or a
    device that is lost) condemns the engine; whatever else it raises ends the utterance it
    was called for. ``guarded`` is the engine behind that wall, for those who call it elsewhere.
    """

    def __init__(
        self,
        engine: Engine,
        observer: LoopObserver | None = None,
        limits: TimeLimits | None = None,
    ) -> None:
        self.engine = engine
        self.guarded = GuardedEngine(engine, lambda: self.condemn(LOST))
        self.limits = limits or TimeLimits()
        self.verdict = Verdict()
        self.activity: Activity | None = None  # of the engine's thread; None while it waits
        self.buffered_bytes = 0  # of all streams; kept in their event loop
        self._observer = observer or _Silent()
        self._commands: collections.deque[_Command] = collections.deque()
        self._wake = threading.Event()
        self._stopping = self._unload_last = False
        self._slots: dict[int, UtteranceStream] = {}
        self._slot_of: dict[int, int] = {}
        self._unreleased: set[int] = set()
        self._queued: collections.deque[UtteranceStream] = collections.deque()
        self._early: dict[int, list[Extend | FinishText]] = {}
        self._call: Call | None = None
        self._thread = threading.Thread(target=self._run, name="vivavoce-engine", daemon=True)

    def start(self) -> None:
        """Start the thread. The engine is not loaded by this."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0, *, unload: bool = False) -> bool:
        """End the thread; live streams fail with Cancelled. ``unload`` is the last it does.

        False where the thread hangs and had to be left behind.
        """
        self._stopping, self._unload_last = True, unload
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        if self._thread.is_alive():
            log.warning("the engine's thread is left behind", extra={"activity": self.activity})
            self._fail_everybody(Cancelled(STOPPING))
        return not self._thread.is_alive()

    @property
    def failure(self) -> EngineFailed | None:
        """Why the engine was given up; None while it works."""
        return self.verdict.failure

    @property
    def live(self) -> int:
        """Utterances in slots or waiting for one."""
        return len(self._slots) + len(self._queued)

    @property
    def running(self) -> bool:
        """Whether the thread is there."""
        return self._thread.is_alive()

    def condemn(self, sentence: str) -> None:
        """Give the engine up for good: everybody who waits is told, and nobody is taken any more.

        From any thread, also while the engine's own hangs.
        """
        if self.failure is not None:
            return
        log.error("the engine is given up: %s", sentence)
        failure = EngineFailed(sentence)
        self.verdict.pronounce(failure)
        self._fail_everybody(failure)
        self._wake.set()

    def check_files(self) -> Future[None]:
        """Run the engine's ``check_files`` on its thread."""
        return self.call(self.guarded.check_files, "looking for the model", self.limits.load_s)

    def load(self) -> Future[None]:
        """Run the engine's ``load`` on its thread; its voices are read with it."""
        return self.call(self.guarded.load, "loading the model", self.limits.load_s)

    def unload(self) -> Future[None]:
        """Run the engine's ``unload`` on its thread."""
        return self.call(self.guarded.unload, "unloading the model", self.limits.unload_s)

    def call(
        self, function: Callable[[], None], doing: str = "busy", limit_s: float | None = None
    ) -> Future[None]:
        """Run something on the engine thread between two steps; None: as long as a step may be."""
        call = Call(function, doing, self.limits.step_s if limit_s is None else limit_s)
        if (over := self._over()) is not None:
            call.fail(over)
        else:
            self.command(call)
        return call.done

    def open(self, utterance: Utterance) -> UtteranceStream:
        """Start an utterance; call from a running event loop. Raises EngineFailed, Cancelled."""
        if (over := self._over()) is not None:
            raise over
        stream = UtteranceStream(self, utterance)
        self.command(Open(stream))
        return stream

    def command(self, command: _Command) -> None:
        """Queue a command for the engine thread."""
        self._commands.append(command)
        self._wake.set()

    def _over(self) -> VivavoceError | None:
        """Why nothing can be asked of the thread any more."""
        return Cancelled(STOPPING) if self._stopping else self.failure

    def _run(self) -> None:
        while not self._stopping:
            self.activity = None
            self._wake.wait()
            self._wake.clear()
            while self._turn():
                pass
        self._abandon(Cancelled(STOPPING))
        if self._unload_last:
            try:
                with self._timed("unloading the model", self.limits.unload_s):
                    self.engine.unload()
            except (Exception, SystemExit) as error:  # noqa: BLE001 - nobody is left to be told
                report_fault("unload", error)
        self.activity = None

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
        except _NobodysSlot:
            self.condemn(NOBODYS_SLOT)
            return False
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a step may raise
            report_fault("step", error)
            self.condemn(STEP_FAILED)
            return False
        return True

    @contextlib.contextmanager
    def _timed(self, doing: str, limit_s: float | None = None) -> Iterator[None]:
        """Note what the thread is doing; what comes between two kinds of work is timed, too."""
        self.activity = starting_now(doing, self.limits.step_s if limit_s is None else limit_s)
        try:
            yield
        finally:
            self.activity = starting_now("between two steps", self.limits.step_s)

    def _obey(self) -> None:
        while self._commands:
            match self._commands.popleft():
                case Open(stream):
                    self._queued.append(stream)
                case Release(stream, closed_at_s):
                    self._release(stream, closed_at_s)
                case Extend() | FinishText() as more:
                    self._pass_on(more)
                case Call() as call:
                    with self._timed(call.doing, call.limit_s):
                        self._call = call
                        call.run()
                        self._call = None

    def _fill(self) -> None:
        while self._queued:
            stream = self._queued[0]
            try:
                with self._timed("taking a request in"):
                    if len(self._slots) >= self.guarded.capacity:
                        return
                    slot = self._admitted(stream.utterance)
            except VivavoceError as error:
                self._queued.popleft()
                self._early.pop(id(stream), None)
                hand_off([(stream, failed(error))])
                continue
            self._queued.popleft()
            self._unreleased.discard(slot)
            self._slots[slot] = stream
            self._slot_of[id(stream)] = slot
            for more in self._early.pop(id(stream), ()):
                self._pass_on(more)

    def _admitted(self, utterance: Utterance) -> int:
        """The slot that the engine gives. Raises EngineError for one that is another's."""
        slot = self.guarded.admit(utterance)
        if slot in self._slots:
            log.error("the engine gave a slot to two: %d", slot)
            raise EngineError(FAULT)
        return slot

    def _pass_on(self, more: Extend | FinishText) -> None:
        """Tell the engine of more text; a stream without a slot yet keeps it until then."""
        slot = self._slot_of.get(id(more.stream))
        if slot is None:
            if more.stream in self._queued:
                self._early.setdefault(id(more.stream), []).append(more)
            return
        try:
            with self._timed("taking more text"):
                if isinstance(more, Extend):
                    self.guarded.extend(slot, more.text)
                else:
                    self.guarded.finish(slot)
        except VivavoceError as error:
            self._end(slot, error)

    def _release(self, stream: UtteranceStream, closed_at_s: float) -> None:
        slot = self._slot_of.get(id(stream))
        if slot is not None:
            self._forget(slot)
            self._free(slot)
            self._observer.released(time.monotonic() - closed_at_s)
        elif stream in self._queued:
            self._queued.remove(stream)
            self._early.pop(id(stream), None)

    def _end(self, slot: int, error: VivavoceError) -> None:
        """End a slot for a fault of its own."""
        stream = self._forget(slot)
        self._free(slot)
        hand_off([(stream, failed(error))])

    def _free(self, slot: int) -> None:
        """Have the engine free a slot. One that it does not let go is nobody's from now on."""
        try:
            with self._timed("freeing a slot"):
                self.guarded.release(slot)
        except VivavoceError as error:
            log.error("the engine did not free slot %d: %s", slot, error.code)
            self._unreleased.add(slot)

    def _forget(self, slot: int) -> UtteranceStream:
        stream = self._slots.pop(slot)
        del self._slot_of[id(stream)]
        return stream

    def _step(self) -> None:
        live = len(self._slots)
        with self._timed("in one step"):
            began_s = time.monotonic()
            produced = self.engine.step()
            duration_s = time.monotonic() - began_s
        if produced:
            self._observer.stepped(duration_s, live)
        ended: set[int] = set()  # by us, for what they made: there may be more of it
        batch: list[tuple[UtteranceStream, Produced]] = []
        try:
            for piece in produced:
                batch.extend(self._addressed(piece, ended))
        finally:
            hand_off(batch)

    def _addressed(
        self, piece: Produced, ended: set[int]
    ) -> Iterator[tuple[UtteranceStream, Produced]]:
        """A piece with the stream it is for. Raises _NobodysSlot: it might be anybody's."""
        slot, last = piece.slot, piece.last or piece.error is not None
        if slot in self._unreleased or slot in ended:
            if last:
                self._unreleased.discard(slot)
            return
        if slot not in self._slots:
            raise _NobodysSlot
        if piece.error is not None:
            error = self.guarded.for_caller("step", piece.error)
            yield self._forget(slot), failed(error)
        elif not is_sound(piece.samples):
            log.error("the engine made something else than sound for slot %d", slot)
            ended.add(slot)
            stream = self._forget(slot)
            if not last:
                self._free(slot)
            yield stream, failed(EngineError(FAULT))
        else:
            yield self._forget(slot) if last else self._slots[slot], piece

    def _fail_everybody(self, error: VivavoceError) -> None:
        """Tell everybody who waits for the engine; from any thread."""
        orphans = [*list(self._slots.values()), *list(self._queued)]
        commands = [*list(self._commands), self._call]
        orphans += [command.stream for command in commands if isinstance(command, Open)]
        for command in commands:
            if isinstance(command, Call):
                command.fail(error)
        hand_off([(stream, failed(error)) for stream in orphans])

    def _abandon(self, error: VivavoceError) -> None:
        """Tell everybody, and forget them; on the engine's thread."""
        self._fail_everybody(error)
        for each in (self._slots, self._slot_of, self._queued, self._early, self._commands):
            each.clear()


class _NobodysSlot(Exception):
    """A step answered for a slot that nobody has."""
