"""Loading, proving, unloading and reloading the engine.

``ready`` means that real sound was synthesised since the start. An engine that was unloaded for
idleness counts as ready: the next request loads it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Literal, TypeAlias

from vivavoce.engines.base import Engine
from vivavoce.engines.loop import EngineLoop
from vivavoce.errors import Draining, EngineError, EngineFailed, Starting, VivavoceError
from vivavoce.speech.observer import SpeechObserver
from vivavoce.types import Span, Utterance

log = logging.getLogger(__name__)

State: TypeAlias = Literal["new", "starting", "ready", "unloaded", "draining", "failed"]

PROOF_TEXT = "Ready."


class Lifecycle:
    """Owns the engine's thread."""

    def __init__(
        self, engine: Engine, observer: SpeechObserver, idle_timeout_s: float = 0.0
    ) -> None:
        self.engine = engine
        self.loop = EngineLoop(engine, observer)
        self.proved_at_s: float | None = None
        self._started = self._starting = self._loaded = self._draining = False
        self._idle_timeout_s = idle_timeout_s
        self._loading = asyncio.Lock()
        self._users = 0
        self._idle: asyncio.TimerHandle | None = None
        self._unloading: asyncio.Task[None] | None = None

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
        """Whether requests are taken and real sound has been made since the start."""
        proved = self.proved_at_s is not None
        return proved and self.state in ("ready", "unloaded")

    async def start(self, *, preload: bool = True) -> None:
        """Start the thread; with ``preload`` load the engine and prove that it speaks.

        Raises SetupError, EngineFailed, EngineError.
        """
        self._started, self._starting = True, preload
        self.loop.start()
        if not preload:
            return
        try:
            await self._load()
        except Exception as error:
            self.loop.failure = EngineFailed(f"The engine could not start: {error}")
            raise
        self._starting = False

    def check_open(self) -> None:
        """Raise Starting, Draining or EngineFailed where a new request cannot be taken."""
        if self.loop.failure is not None:
            raise self.loop.failure
        if self._draining:
            raise Draining("The server is shutting down.")
        if self._starting or not self._started:
            raise Starting("The engine is still loading.", retry_after_ms=1_000)

    async def enter(self) -> None:
        """Begin to use the engine, loading it if it was unloaded; pair with ``leave``."""
        self._users += 1
        self._cancel_idle()
        try:
            if not self._loaded:
                await self._load()
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        """End a use; the last one out starts the idle clock."""
        self._users -= 1
        if self._users == 0 and self._idle_timeout_s > 0 and self._loaded:
            loop = asyncio.get_running_loop()
            self._idle = loop.call_later(self._idle_timeout_s, self._begin_unload)

    def stay_until(self, done: asyncio.Future[None]) -> None:
        """One more use until ``done``: work on the engine that goes on without its caller."""
        self._users += 1
        done.add_done_callback(lambda _: self.leave())

    def drain(self) -> None:
        """Take no new requests; running ones go on."""
        self._draining = True

    async def close(self) -> None:
        """End the thread; what still runs fails with Cancelled."""
        self._draining = True
        self._cancel_idle()
        if self._unloading is not None:
            await self._unloading
        await asyncio.to_thread(self.loop.stop)
        self.engine.unload()

    async def _load(self) -> None:
        async with self._loading:
            if self._loaded:
                return
            if self._unloading is not None:
                await self._unloading
            began_s = time.monotonic()
            await asyncio.wrap_future(self.loop.call(self.engine.load))
            await self._prove()
            self._loaded = True
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
        voice = self.engine.voices()[0]
        stream = self.loop.open(Utterance((Span(PROOF_TEXT),), voice, deadline_s=time.monotonic()))
        try:
            count = 0
            async for produced in stream:
                count += len(produced.samples)
        finally:
            stream.close()
        if count == 0:
            raise EngineError("The engine made no sound for the test sentence.")
        self.proved_at_s = time.monotonic()

    def _begin_unload(self) -> None:
        self._idle = None
        if self._users == 0 and self._loaded:
            self._loaded = False
            self._unloading = asyncio.create_task(self._unload())

    async def _unload(self) -> None:
        with contextlib.suppress(VivavoceError):
            await asyncio.wrap_future(self.loop.call(self.engine.unload))
            log.info("engine unloaded after %g idle seconds", self._idle_timeout_s)
        self._unloading = None

    def _cancel_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
