"""Utterances one after the other: order, skip, stop, faults, bounds."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from vivavoce.audio import play_queue
from vivavoce.audio.play_queue import PlaybackQueue, Turn
from vivavoce.audio.playback import Playback
from vivavoce.errors import Busy, PlaybackError
from vivavoce.types import AudioChunk

HZ = 8_000
PATIENCE_S = 60.0


class Heard(Playback):
    """Plays nothing until it is told to; remembers what it was given."""

    def __init__(self, sample_rate_hz: int, max_queued_s: float) -> None:
        super().__init__(sample_rate_hz, max_queued_s)
        self.levels: list[float] = []
        self.opened = threading.Event()
        self.may_end = threading.Event()

    def push(self, chunk: AudioChunk) -> None:
        super().push(chunk)
        self.levels.append(float(chunk.samples[0]))
        self.opened.set()

    def drop(self) -> None:
        super().drop()
        self.may_end.set()

    def finish(self) -> None:
        assert self.may_end.wait(PATIENCE_S)
        self._queue.drop()

    def stop(self) -> None:
        self.drop()


class Room:
    """A queue and the sinks it opened, in order."""

    def __init__(self) -> None:
        self.sinks: list[Heard] = []
        self.faults: list[Exception] = []
        self.changed = threading.Condition()
        self.queue = PlaybackQueue(self._open, max_turns=3)

    def _open(self, sample_rate_hz: int, max_queued_s: float) -> Playback:
        if self.faults:
            raise self.faults.pop()
        sink = Heard(sample_rate_hz, max_queued_s)
        with self.changed:
            self.sinks.append(sink)
            self.changed.notify_all()
        return sink

    def sink(self, number: int) -> Heard:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.sinks) > number, PATIENCE_S)
        assert self.sinks[number].opened.wait(PATIENCE_S)
        return self.sinks[number]


@pytest.fixture
def room() -> Iterator[Room]:
    room = Room()
    yield room
    room.queue.close()


def chunk(level: float, seconds: float = 0.1) -> AudioChunk:
    return AudioChunk(np.full(round(seconds * HZ), level, np.float32), HZ)


def spoken(queue: PlaybackQueue, *levels: float) -> Turn:
    turn = queue.enter()
    for level in levels:
        turn.push(chunk(level))
    turn.finish()
    return turn


def test_turns_are_heard_in_the_order_in_which_they_entered(room: Room) -> None:
    first, second = room.queue.enter(), room.queue.enter()
    for level, turn in ((0.2, second), (0.1, first)):
        turn.push(chunk(level))
        turn.finish()
    assert room.sink(0).levels == pytest.approx([0.1])
    assert len(room.sinks) == 1
    room.sink(0).may_end.set()
    assert first.over.result(PATIENCE_S) == "played"
    room.sink(1).may_end.set()
    assert second.over.result(PATIENCE_S) == "played"
    assert room.sink(1).levels == pytest.approx([0.2])


def test_a_producer_never_waits_for_playback(room: Room) -> None:
    spoken(room.queue, 0.1)
    waiting = spoken(room.queue, *[0.2] * 100)
    room.sink(0)
    assert waiting.queued_s == pytest.approx(10)
    assert not waiting.over.done()


def test_sound_goes_out_while_more_is_made(room: Room) -> None:
    turn = room.queue.enter()
    turn.push(chunk(0.1))
    sink = room.sink(0)
    assert room.queue.state.playing
    sink.opened.clear()
    turn.push(chunk(0.3))
    assert sink.opened.wait(PATIENCE_S)
    assert sink.levels == pytest.approx([0.1, 0.3])


def test_skip_ends_the_first_alone(room: Room) -> None:
    first, second = spoken(room.queue, 0.1), spoken(room.queue, 0.2)
    room.sink(0)
    assert room.queue.skip() == [first]
    assert first.over.result(PATIENCE_S) == "dropped"
    room.sink(1).may_end.set()
    assert second.over.result(PATIENCE_S) == "played"


def test_skip_ends_one_that_is_still_being_made(room: Room) -> None:
    turn = room.queue.enter()
    turn.push(chunk(0.1))
    room.sink(0)
    room.queue.skip()
    turn.push(chunk(0.2))
    assert turn.over.result(PATIENCE_S) == "dropped"
    assert turn.queued_s == 0


def test_stop_ends_all(room: Room) -> None:
    turns = [spoken(room.queue, 0.1), spoken(room.queue, 0.2), room.queue.enter()]
    room.sink(0)
    assert room.queue.stop() == turns
    assert [turn.over.result(PATIENCE_S) for turn in turns] == ["dropped"] * 3
    assert len(room.sinks) == 1
    assert room.queue.state == play_queue.QueueState(playing=False, turns=0, queued_s=0.0)


def test_a_turn_without_a_sound_makes_way(room: Room) -> None:
    empty = spoken(room.queue)
    assert empty.over.result(PATIENCE_S) == "played"
    assert room.sinks == []


def test_a_full_queue_says_when_to_come_again(room: Room) -> None:
    first = spoken(room.queue, *[0.1] * 20)
    room.sink(0)
    room.queue.enter()
    last = room.queue.enter()
    with pytest.raises(Busy, match="3 utterances") as refused:
        room.queue.enter()
    assert refused.value.retry_after_ms == pytest.approx(2000)
    room.queue.skip()
    first.over.result(PATIENCE_S)
    room.queue.enter()
    assert not last.over.done()


def test_too_much_sound_takes_no_more_utterances(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(play_queue, "MAX_QUEUED_S", 0.25)
    spoken(room.queue, 0.1, 0.1, 0.1)
    with pytest.raises(Busy, match="1 utterances"):
        room.queue.enter()


def test_a_turn_that_grows_too_far_is_refused_and_what_it_has_is_heard(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(play_queue, "MAX_BEHIND_S", 0.45)
    first, second = spoken(room.queue, 0.1, 0.1, 0.1), room.queue.enter()
    for _ in range(2):
        second.push(chunk(0.2))
    with pytest.raises(Busy, match="rest is not spoken"):
        second.push(chunk(0.3))
    second.finish()
    room.sink(0).may_end.set()
    assert first.over.result(PATIENCE_S) == "played"
    room.sink(1).may_end.set()
    assert second.over.result(PATIENCE_S) == "played"
    assert room.sink(1).levels == pytest.approx([0.2, 0.2])


def test_what_was_played_makes_room_to_grow(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(play_queue, "MAX_BEHIND_S", 0.25)
    first, second = spoken(room.queue, 0.1, 0.1), room.queue.enter()
    second.push(chunk(0.2))
    with pytest.raises(Busy):
        second.push(chunk(0.2))
    room.sink(0).may_end.set()
    first.over.result(PATIENCE_S)
    second.push(chunk(0.2))
    assert second.queued_s == pytest.approx(0.2)


def test_who_was_dropped_takes_no_place(room: Room) -> None:
    first = spoken(room.queue, 0.1)
    room.sink(0)
    for _ in range(5):
        waiting = [room.queue.enter(), room.queue.enter()]
        assert room.queue.state.turns == 3
        with pytest.raises(Busy):
            room.queue.enter()
        for turn in waiting:
            turn.drop()
        assert room.queue.state.turns == 1
    last = room.queue.enter()
    assert [turn.over.result(0) for turn in waiting] == ["dropped"] * 2
    room.sink(0).may_end.set()
    assert first.over.result(PATIENCE_S) == "played"
    last.finish()
    assert last.over.result(PATIENCE_S) == "played"


def test_a_device_that_fails_spoils_one_turn_alone(room: Room) -> None:
    room.faults.append(PlaybackError("No usable audio device: planted."))
    first, second = spoken(room.queue, 0.1), spoken(room.queue, 0.2)
    assert first.over.result(PATIENCE_S) == "failed"
    assert first.error is not None and "planted" in first.error.message
    room.sink(0).may_end.set()
    assert second.over.result(PATIENCE_S) == "played"


def test_closing_falls_silent_and_takes_no_more() -> None:
    room = Room()
    turn = room.queue.enter()
    turn.push(chunk(0.1))
    room.sink(0)
    room.queue.close()
    room.queue.close()
    assert turn.over.result(0) == "dropped"
    with pytest.raises(Busy, match="ended"):
        room.queue.enter()
