"""Utterances that are played one after the other while their sound is still being made."""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal, TypeAlias

from vivavoce.audio.playback import Playback
from vivavoce.errors import Busy, MissingExtra, PlaybackError
from vivavoce.types import AudioChunk

log = logging.getLogger(__name__)

OpenPlayback: TypeAlias = Callable[[int, float], Playback]
"""Makes a player from a sample rate in Hz and the seconds it may hold."""

TurnEnd: TypeAlias = Literal["played", "dropped", "failed"]

MAX_QUEUED_S = 600.0
"""No more utterances are taken while so much sound waits: about 58 MB at 24,000 Hz."""

MAX_BEHIND_S = 1_800.0
"""Sound that may wait in all while the utterances that were taken grow: about 173 MB."""

_MIN_RETRY_MS = 500


class Turn:
    """One utterance's place in a queue. Whoever makes its sound calls ``push`` and ``finish``.

    ``behind_s`` tells the seconds of sound that wait in the whole queue. ``over`` becomes how it
    ended; ``error`` says why it could not be played.
    """

    def __init__(self, behind_s: Callable[[], float]) -> None:
        self._behind_s = behind_s
        self.over: Future[TurnEnd] = Future()
        self.over.set_running_or_notify_cancel()  # nobody's impatience can cancel it
        self.error: PlaybackError | MissingExtra | None = None
        self.dropped = False
        self._changed = threading.Condition()
        self._chunks: deque[AudioChunk] = deque()
        self._waiting_s = 0.0
        self._finished = False
        self._player: Playback | None = None

    @property
    def playing(self) -> bool:
        """Whether its sound goes out now."""
        return self._player is not None and not self.dropped

    @property
    def queued_s(self) -> float:
        """Seconds of its sound that were not heard yet."""
        with self._changed:
            return self._waiting_s + (self._player.queued_s if self._player is not None else 0.0)

    def push(self, chunk: AudioChunk) -> None:
        """Queue sound; returns at once. Nothing happens once it is over or was dropped.

        Raises Busy where too much waits already, of it or before it; what was queued is played.
        """
        behind_s = self._behind_s()  # before the lock, which the queue takes within its own
        with self._changed:
            if self.dropped or self.over.done() or not len(chunk.samples):
                return
            if behind_s > MAX_BEHIND_S:
                raise Busy(
                    f"Playback is more than {MAX_BEHIND_S:g} s behind; the rest is not spoken.",
                    retry_after_ms=_MIN_RETRY_MS,
                )
            self._chunks.append(chunk)
            self._waiting_s += chunk.duration_s
            self._changed.notify_all()

    def finish(self) -> None:
        """There is no more of it, for whatever reason; what is queued is played."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def drop(self) -> None:
        """Fall silent at once, and make room for the next. Harmless when it is over."""
        with self._changed:
            self.dropped = True
            self._forget()
            if self._player is not None:
                self._player.drop()
            self._changed.notify_all()

    def play(self, open_playback: OpenPlayback) -> None:
        """For the queue's thread: play it to its end. Raises PlaybackError, MissingExtra."""
        chunk = self._take()
        if chunk is None:
            return
        with self._playing_on(open_playback(chunk.sample_rate_hz, math.inf)) as player:
            while chunk is not None:
                player.push(chunk)
                chunk = self._take()
            if self.dropped:
                player.stop()

    def leave(self, end: TurnEnd) -> None:
        """For the queue's thread: it is over."""
        with self._changed:
            self._forget()
            self._player = None
        self.over.set_result(end)

    def _take(self) -> AudioChunk | None:
        """The next piece; waits for it. None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._chunks or self._finished or self.dropped)
            if not self._chunks:
                return None
            chunk = self._chunks.popleft()
            self._waiting_s = self._waiting_s - chunk.duration_s if self._chunks else 0.0
            return chunk

    def _forget(self) -> None:
        self._chunks.clear()
        self._waiting_s = 0.0

    def _playing_on(self, player: Playback) -> Playback:
        with self._changed:
            self._player = player
            if self.dropped:
                player.drop()
        return player


@dataclass(frozen=True, slots=True)
class QueueState:
    """``playing``: sound is going out. ``turns``: utterances that will be heard, that one
    included."""

    playing: bool
    turns: int
    queued_s: float


class PlaybackQueue:
    """Plays turns in the order in which they entered, in a thread of its own.

    A producer pushes at any speed and never waits for playback. A turn that fails, or that its
    producer gives up, ends alone. ``open_playback`` is called in the thread, for each turn.
    """

    def __init__(self, open_playback: OpenPlayback, max_turns: int = 16) -> None:
        self._open_playback = open_playback
        self._max_turns = max_turns
        self._turns: deque[Turn] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def state(self) -> QueueState:
        """What is going on now."""
        with self._changed:
            playing = bool(self._turns) and self._turns[0].playing
            return QueueState(playing, len(self._live()), self._queued_s())

    def enter(self) -> Turn:
        """The next place in the queue. Raises Busy when there is none, or the queue is closed."""
        with self._changed:
            if self._closed:
                raise Busy("Playback has ended.", retry_after_ms=_MIN_RETRY_MS)
            queued_s, live = self._queued_s(), self._live()
            if len(live) >= self._max_turns or queued_s > MAX_QUEUED_S:
                # Rounded first: a sum of many pieces is a hair above or below what it means.
                first_ms = round(live[0].queued_s * 1000, 3) if live else 0.0
                raise Busy(
                    f"{len(live)} utterances ({queued_s:.0f} s) wait to be played.",
                    retry_after_ms=max(_MIN_RETRY_MS, math.ceil(first_ms)),
                )
            self._let_dropped_go()
            turn = Turn(self._all_queued_s)
            self._turns.append(turn)
            self._changed.notify_all()
            self._wake()
            return turn

    def skip(self) -> list[Turn]:
        """End the first utterance, whether it is heard already or not; those that were ended."""
        return self._drop(1)

    def stop(self) -> list[Turn]:
        """End all utterances; those that were ended."""
        return self._drop(self._max_turns)

    def close(self) -> None:
        """Fall silent and end the thread. Idempotent."""
        self._shut()
        if self._thread is not None:
            self._thread.join()

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="playback", daemon=True)
            self._thread.start()

    def _shut(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.stop()

    def _drop(self, count: int) -> list[Turn]:
        with self._changed:
            ended = self._live()[:count]
        for turn in ended:
            turn.drop()
        return ended

    def _live(self) -> list[Turn]:
        return [turn for turn in self._turns if not turn.dropped]

    def _let_dropped_go(self) -> None:
        """Those that wait; the first one is in the thread's hands."""
        gone = [turn for turn in list(self._turns)[1:] if turn.dropped]
        for turn in gone:
            self._turns.remove(turn)
            turn.leave("dropped")

    def _all_queued_s(self) -> float:
        with self._changed:
            return self._queued_s()

    def _queued_s(self) -> float:
        return sum(turn.queued_s for turn in self._turns)

    def _run(self) -> None:
        try:
            while (turn := self._next()) is not None:
                self._give(turn)
        finally:
            self._shut()

    def _next(self) -> Turn | None:
        with self._changed:
            self._changed.wait_for(lambda: self._turns or self._closed)
            return self._turns[0] if self._turns else None

    def _give(self, turn: Turn) -> None:
        end: TurnEnd = "failed"
        try:
            turn.play(self._open_playback)
            end = "dropped" if turn.dropped else "played"
        except (PlaybackError, MissingExtra) as error:
            log.error("an utterance could not be played: %s", error.message)
            turn.error = error
        finally:
            with self._changed:
                self._turns.popleft()
            turn.leave(end)
