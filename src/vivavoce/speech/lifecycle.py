"""Loading, proving, unloading and reloading the engine, and the watch over its thread.

``ready`` means that real sound was synthesised since the start, or, for an engine that is loaded
with its first request, that its files were found. An engine that was unloaded for idleness counts
as ready: the next request loads it again.

An engine fails for good by what ``EngineLoop`` says, by a device that is lost while it loads, by
an ``unload`` that fails (what it still holds of the memory is not known), and by a thread that has
been at one thing for twice its limit.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import time
from collections.abc import Callable
from typing import Literal, TypeAlias

from vivavoce.engines.base import Engine
from vivavoce.engines.guarded import report_fault
from vivavoce.engines.loop import EngineLoop
from vivavoce.engines.watch import Activity, TimeLimits
from vivavoce.errors import (
    Cancelled,
    Draining,
    EngineError,
    EngineFailed,
    Starting,
    Unavailable,
    VivavoceError,
)
from vivavoce.runtime.device_errors import LOST, is_lost
from vivavoce.speech.observer import SpeechObserver
from vivavoce.types import Span, Utterance

log = logging.getLogger(__name__)

State: TypeAlias = Literal["new", "starting", "ready", "unloaded", "draining", "failed"]
WatchSource: TypeAlias = Callable[[], Activity | None]

PROOF_TEXT = "Ready."

SWITCH_S = 0.0005

WATCH_S = 0.1
"""How often the watch looks."""

GIVEN_UP = 2.0
"""Limits after which a thread that has not moved is given up."""

CLOSE_S, CLOSE_BUSY_S = 3.0, 0.3
"""How long the end of the engine's thread is waited for: while it speaks or rests, and while it
loads, unloads or is late."""

START_FAILED = "The engine could not start; the server's log says more."
LOAD_FAILED = "The engine could not be loaded; the server's log says more."
UNLOAD_FAILED = "The engine could not be unloaded; the server's log says more."


class Lifecycle:
    """Owns the engine's thread.

    ``own_process`` says that the process speaks and does nothing else: what lives as long as the
    engine is then left out of garbage collections. A collection of every object holds up all
    threads for as long as it takes (60 ms with a small model, seen in the middle of calls); after
    ``gc.freeze`` it looks at what came later, which is little. And a thread that waits for the
    interpreter gets it after ``SWITCH_S``: Python's own 5 ms are longer than a frame on a fast GPU.
    """

    def __init__(
        self,
        engine: Engine,
        observer: SpeechObserver,
        idle_timeout_s: float = 0.0,
        limits: TimeLimits | None = None,
        *,
        own_process: bool = False,
    ) -> None:
        self.engine = engine
        self._own_process = own_process
        self._usual_switch_s: float | None = None
        self.loop = EngineLoop(engine, observer, limits)
        self.proved_at_s: float | None = None
        self._started = self._starting = self._loaded = self._draining = False
        self._located = False
        self._idle_timeout_s = idle_timeout_s
        self._users = 0
        self._idle: asyncio.TimerHandle | None = None
        self._loading: asyncio.Task[None] | None = None
        self._unloading: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._watched: list[WatchSource] = [lambda: self.loop.activity]

    @property
    def state(self) -> State:
        """Where the engine stands now."""
        if self.loop.failure is not None:
            return "failed"
        if self._draining:
            return "draining"
        if not self._started:
            return "new"
        if self._starting:
            return "starting"
        return "ready" if self._loaded else "unloaded"

    @property
    def ready(self) -> bool:
        """Whether requests are taken, and real sound was made since the start or files found."""
        known = self._located or self.proved_at_s is not None
        return known and self.state in ("ready", "unloaded")

    def watch(self, source: WatchSource) -> None:
        """Watch one more thread of the engine: ``source`` says what it is doing now."""
        self._watched.append(source)

    def latest(self) -> Activity | None:
        """Of all work in progress that which has used up most of its limit; None where none is."""
        found = [each for source in self._watched if (each := source()) is not None]
        return max(found, key=lambda each: each.share, default=None)

    def late(self, share: float = 1.0) -> str | None:
        """In words, what has taken more than ``share`` of its limit; None where nothing has."""
        latest = self.latest()
        return str(latest) if latest is not None and latest.share >= share else None

    async def start(self, *, preload: bool = True) -> None:
        """Start the thread; with ``preload`` load the engine and prove that it speaks.

        Without it, only look for the model's files. Raises SetupError, EngineFailed, EngineError.
        """
        self._started = self._starting = True
        if self._own_process:
            self._usual_switch_s = sys.getswitchinterval()
            sys.setswitchinterval(SWITCH_S)
        self.loop.start()
        self._watching = asyncio.create_task(self._watch())
        try:
            if preload:
                await self._join_load()
            else:
                await asyncio.wrap_future(self.loop.check_files())
                self._located = True
        except Exception as error:
            if is_lost(error):
                self.loop.condemn(LOST)
                raise EngineFailed(LOST) from error
            ours = isinstance(error, VivavoceError)
            why = f"The engine could not start: {error}" if ours else START_FAILED
            self.loop.verdict.pronounce(EngineFailed(why))
            raise
        self._starting = False

    def check_open(self) -> None:
        """Raise Starting, Draining, EngineFailed or Unavailable where nobody can be served now."""
        if self.loop.failure is not None:
            raise self.loop.failure
        if self._draining:
            raise Draining("The server is shutting down.")
        if self._starting or not self._started:
            raise Starting("The engine is still loading.", retry_after_ms=1_000)
        if (late := self.late()) is not None:
            raise Unavailable(late)

    async def enter(self) -> None:
        """Begin to use the engine, loading it if it was unloaded; pair with ``leave``.

        Raises EngineFailed, and EngineError where it cannot be loaded.
        """
        self._users += 1
        self._cancel_idle()
        try:
            if not self._loaded:
                await self._load_again()
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        """End a use; the last one out starts the idle clock."""
        self._users -= 1
        self._start_idle()

    def stay_until(self, done: asyncio.Future[None]) -> None:
        """One more use until ``done``: work on the engine that goes on without its caller."""
        self._users += 1
        done.add_done_callback(lambda _: self.leave())

    def drain(self) -> None:
        """Take no new requests; running ones go on."""
        self._draining = True

    async def close(self) -> None:
        """Unload the engine and end its thread; what still runs fails with Cancelled.

        A thread that hangs is left behind.
        """
        self._draining = True
        self._cancel_idle()
        if self._watching is not None:
            self._watching.cancel()
        busy = self._loading or self._unloading or self.late()
        timeout_s = CLOSE_BUSY_S if busy else CLOSE_S
        await asyncio.to_thread(self.loop.stop, timeout_s, unload=True)
        ending = [each for each in (self._watching, self._loading, self._unloading) if each]
        await asyncio.gather(*ending, return_exceptions=True)
        if self._usual_switch_s is not None:
            sys.setswitchinterval(self._usual_switch_s)

    async def _load_again(self) -> None:
        """Load for a request. Why that fails is for the log: it names this machine's files."""
        try:
            await self._join_load()
        except (EngineError, Unavailable, Cancelled):
            raise
        except Exception as error:
            raise EngineError(LOAD_FAILED) from error

    async def _join_load(self) -> None:
        """Wait for the one load in progress, beginning it where there is none.

        It goes on for the others, and for those who come, when somebody who waits for it leaves.
        """
        if self._loading is None:
            self._loading = asyncio.create_task(self._load())
            self._loading.add_done_callback(self._load_ended)
        await asyncio.shield(self._loading)

    def _load_ended(self, task: asyncio.Task[None]) -> None:
        self._loading = None
        error = None if task.cancelled() else task.exception()
        if isinstance(error, VivavoceError):
            log.error("the engine could not be loaded: %s", error.message)
        elif error is not None:
            report_fault("load", error)
            if is_lost(error):
                self.loop.condemn(LOST)
        else:
            self._start_idle()  # whoever asked for it may be gone

    async def _load(self) -> None:
        if self._loaded:
            return
        if self._unloading is not None:
            await self._unloading
        began_s = time.monotonic()
        await asyncio.wrap_future(self.loop.load())
        try:
            await self._prove()
        except VivavoceError:
            await self._unload()  # so that the next load does not find it loaded
            raise
        self._loaded = True
        if self._own_process:
            gc.freeze()
        log.info(
            "engine ready",
            extra={
                "engine": self.engine.info.name,
                "device": self.engine.info.device,
                "load_s": round(time.monotonic() - began_s, 3),
            },
        )

    async def _prove(self) -> None:
        """Synthesise real sound. Raises EngineError if there is none."""
        voices = self.loop.guarded.voices()
        if not voices:
            raise EngineError("The engine has no voice.")
        utterance = Utterance((Span(PROOF_TEXT),), voices[0], deadline_s=time.monotonic())
        stream = self.loop.open(utterance)
        try:
            count = 0
            async for produced in stream:
                count += len(produced.samples)
        finally:
            stream.close()
        if count == 0:
            raise EngineError("The engine made no sound for the test sentence.")
        self.proved_at_s = time.monotonic()

    def _start_idle(self) -> None:
        if self._users == 0 and self._idle_timeout_s > 0 and self._loaded and self._idle is None:
            loop = asyncio.get_running_loop()
            self._idle = loop.call_later(self._idle_timeout_s, self._begin_unload)

    def _begin_unload(self) -> None:
        self._idle = None
        if self._users == 0 and self._loaded:
            log.info("the engine is unloaded after %g idle seconds", self._idle_timeout_s)
            self._loaded = False
            self._unloading = asyncio.create_task(self._unload())

    async def _unload(self) -> None:
        """Have the engine give its memory back; one that cannot is given up."""
        if self._own_process:
            gc.unfreeze()  # a model's objects hold each other, and only a collection frees those
        try:
            await asyncio.wrap_future(self.loop.unload())
        except (Cancelled, EngineFailed):
            pass  # the thread ends, or the engine is given up already
        except Exception as error:  # noqa: BLE001 - whatever an engine may raise
            report_fault("unload", error)
            self.loop.condemn(UNLOAD_FAILED)
        finally:
            self._unloading = None

    async def _watch(self) -> None:
        """Give up an engine whose thread does not come back."""
        noted = ""
        while self.loop.failure is None:
            latest = self.latest()
            if latest is None or latest.share < 1:
                noted = ""
            elif noted != latest.doing:
                noted = latest.doing
                log.warning("the engine is late: %s", latest)
            if latest is not None and latest.share >= GIVEN_UP:
                self.loop.condemn(f"{latest} It was given up.")
            await asyncio.sleep(WATCH_S)

    def _cancel_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
