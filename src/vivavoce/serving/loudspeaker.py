"""Speech that the server plays itself: spoken ahead of the loudspeaker, waited for as asked."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

from vivavoce.audio.play_queue import PlaybackQueue, Turn
from vivavoce.audio.playback import NullPlayer, Playback, Player
from vivavoce.errors import EngineError, VivavoceError
from vivavoce.serving.middleware import InFlight
from vivavoce.serving.outputs import OutputFile, OutputFolder
from vivavoce.serving.session import opened
from vivavoce.settings import Settings
from vivavoce.speech.encoding import ThreadedEncoder, threads_for
from vivavoce.speech.service import SpeechService
from vivavoce.speech.stream import SpeechStream
from vivavoce.types import SpeechRequest, Timings

log = logging.getLogger(__name__)

Wait: TypeAlias = Literal["start", "done", "played"]
"""When to answer: the first sound is queued, all of it is made, all of it was heard."""

State: TypeAlias = Literal["started", "done", "played", "stopped"]

CHECK_HZ = 24_000
MAX_FAILURES = 8


@dataclass(frozen=True, slots=True)
class PlayOrder:
    """A request to speak aloud; ``output`` and its encoding: the file to write as well."""

    request: SpeechRequest
    wait: Wait = "done"
    output: Path | None = None
    encoding: str = "wav"


@dataclass(frozen=True, slots=True)
class PlayFailure:
    """What went wrong after the answer; ``at_s`` is Unix time."""

    error: VivavoceError
    at_s: float


@dataclass(eq=False, slots=True)
class Play:
    """One order under way. ``ahead`` counts the utterances that were before it.

    ``answered``: whoever asked for it no longer waits. ``playback_ms`` is what was waited for after
    its synthesis.
    """

    order: PlayOrder
    turn: Turn
    ahead: int
    started: asyncio.Future[None]
    stream: SpeechStream | None = None
    task: asyncio.Task[None] | None = None
    playback_ms: float | None = None
    answered: bool = False

    @property
    def state(self) -> State:
        """How far it is."""
        if self.turn.dropped:
            return "stopped"
        if self.turn.over.done():
            return "played"
        return "done" if self.task is not None and self.task.done() else "started"

    @property
    def timings(self) -> Timings:
        """What its synthesis took."""
        return Timings() if self.stream is None else self.stream.timings


class Loudspeaker:
    """Speaks orders into a playback queue, in the order in which they came.

    ``failures`` are the last ones that no answer could tell, the oldest first.
    """

    def __init__(
        self,
        service: SpeechService,
        queue: PlaybackQueue,
        outputs: OutputFolder,
        in_flight: InFlight,
    ) -> None:
        self.queue = queue
        self.outputs = outputs
        self._service = service
        self._in_flight = in_flight
        self._plays: dict[Turn, Play] = {}
        self.failures: deque[PlayFailure] = deque(maxlen=MAX_FAILURES)

    async def play(self, order: PlayOrder) -> Play:
        """Speak and play; returns when the order says so. Cancelling this takes it all back.

        Raises Busy where too much waits already, PlaybackError where nothing can be played, what
        ``SpeechService.open`` and its stream raise, and SetupError for a file.
        """
        play = self._begin(order)
        try:
            await self._wait(play)
        except asyncio.CancelledError:
            await self._end(play)
            raise
        return play

    async def skip(self) -> int:
        """End the first utterance of the queue; how many were ended."""
        return await self._drop(self.queue.skip())

    async def stop(self) -> int:
        """End all utterances; how many were ended."""
        return await self._drop(self.queue.stop())

    async def close(self) -> None:
        """Fall silent, for good."""
        for play in list(self._plays.values()):
            await self._end(play)
        await asyncio.to_thread(self.queue.close)

    def _begin(self, order: PlayOrder) -> Play:
        ahead = self.queue.state.turns
        turn = self.queue.enter()
        play = Play(order, turn, ahead, asyncio.get_running_loop().create_future())
        play.task = asyncio.create_task(self._speak(play))
        self._plays[turn] = play
        play.task.add_done_callback(lambda task: self._spoken(play, task))
        turn.over.add_done_callback(lambda _: self._failed(play, turn.error))
        return play

    async def _speak(self, play: Play) -> None:
        order, turn = play.order, play.turn
        file: ThreadedEncoder | None = None
        with self._in_flight.one():
            try:
                async with opened(self._service, order.request, "play") as stream:
                    play.stream = stream
                    file = _file_of(play, stream)
                    async for chunk in stream:
                        turn.push(chunk)
                        if file is not None:
                            await file.push(chunk.samples)
                        if not play.started.done():
                            play.started.set_result(None)
                        await asyncio.sleep(0)  # remembered sound never waits for anything
                turn.finish()
                if file is not None:
                    await file.finish()
            finally:
                turn.finish()
                if file is not None:
                    file.close()

    async def _wait(self, play: Play) -> None:
        """Raises what its synthesis raised, and PlaybackError."""
        assert play.task is not None
        order, turn = play.order, play.turn
        first = {play.started} if order.wait == "start" else set()
        await asyncio.wait({play.task, *first}, return_when=asyncio.FIRST_COMPLETED)
        if play.task.done() and not play.task.cancelled():
            play.task.result()
        if order.wait == "played":
            began_s = time.monotonic()
            await asyncio.wait({asyncio.wrap_future(turn.over)})
            play.playback_ms = (time.monotonic() - began_s) * 1000
        play.answered = True
        if turn.over.done() and turn.error is not None:
            raise turn.error

    def _spoken(self, play: Play, task: asyncio.Task[None]) -> None:
        """Its synthesis ended; somebody may no longer wait for it."""
        self._plays.pop(play.turn, None)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, VivavoceError):
            log.warning("not spoken whole", extra={"code": error.code, "why": error.message})
            self._failed(play, error)
        elif error is not None:
            log.error("speech to be played failed", exc_info=error)
            self._failed(play, EngineError("The speech failed; the log says why."))

    def _failed(self, play: Play, error: VivavoceError | None) -> None:
        """From any thread: remember what no answer will tell."""
        if error is not None and play.answered:
            self.failures.append(PlayFailure(error, time.time()))

    async def _drop(self, turns: list[Turn]) -> int:
        for turn in turns:
            if turn in self._plays:
                await self._end(self._plays[turn])
        return len(turns)

    async def _end(self, play: Play) -> None:
        play.turn.drop()
        if play.task is not None and not play.task.done():
            play.task.cancel()
            await asyncio.wait({play.task})


def make_loudspeaker(
    service: SpeechService, settings: Settings, in_flight: InFlight
) -> Loudspeaker | None:
    """Playback as the settings want it; None where it is off. Raises SettingsError."""
    if settings.playback == "off":
        return None
    open_playback = Player if settings.playback == "device" else NullPlayer
    queue = PlaybackQueue(open_playback, settings.playback_queue)
    return Loudspeaker(service, queue, OutputFolder(settings.output_dir), in_flight)


def check_playback(settings: Settings) -> None:
    """Raise PlaybackError or MissingExtra where playback is wanted and cannot be."""
    if settings.playback == "device":
        player: Playback = Player(CHECK_HZ)
        player.stop()


def _file_of(play: Play, stream: SpeechStream) -> ThreadedEncoder | None:
    """The file that the order wants, written in threads as its sound comes."""
    order, turn = play.order, play.turn
    if order.output is None:
        return None
    make = partial(
        OutputFile,
        order.output,
        stream.sample_rate_hz,
        order.encoding,
        lambda: not turn.dropped,
    )
    return ThreadedEncoder(make, threads_for(remembered=stream.timings.cached))
