from __future__ import annotations

import asyncio
from typing import Any

import pytest

from vivavoce.bench.clients import Target, open_speaker
from vivavoce.bench.clients.base import now_s
from vivavoce.bench.heard import Listening, Measure, Recorder
from vivavoce.bench.load import ClosedLoop, OpenLoop, Run, Summary, call_probe
from vivavoce.bench.session import find_max
from vivavoce.bench.texts import TextSource


class SlowSpeaker:
    """Answers after ``takes_s`` and remembers how many it had at once."""

    def __init__(self, takes_s: float, audio_s: float = 0.0125) -> None:
        self.takes_s = takes_s
        self.audio_s = audio_s
        self.running = 0
        self.peak = 0
        self.sent_at_s: list[float] = []

    async def speak(self, text: str, recorder: Recorder) -> Measure:
        self.running += 1
        self.peak = max(self.peak, self.running)
        self.sent_at_s.append(now_s())
        recorder.sent(now_s())
        recorder.format(8000)
        await asyncio.sleep(self.takes_s)
        recorder.pcm(now_s(), b"\x00\x40" * round(8000 * self.audio_s))
        self.running -= 1
        return recorder.finish(now_s())

    async def aclose(self) -> None:
        return None


def perform(speaker: Any, load: ClosedLoop | OpenLoop) -> tuple[Run, Summary]:
    run = Run(speaker, TextSource(salt=1), Listening())
    return run, asyncio.run(run.perform(load))


def test_a_closed_loop_keeps_its_callers_busy_and_no_more() -> None:
    speaker = SlowSpeaker(0.01)
    run, summary = perform(speaker, ClosedLoop(concurrency=3, requests=10))
    assert (speaker.peak, summary.requests, summary.ok) == (3, 10, 10)
    assert len(run.loop_lags_ms) > 0
    assert summary.schedule_lag_ms is not None and summary.schedule_lag_ms.count == 10


def test_an_open_loop_does_not_wait_for_answers() -> None:
    speaker = SlowSpeaker(0.3)
    _, summary = perform(speaker, OpenLoop(rate_per_s=500, requests=40, seed=1))
    assert summary.requests == 40
    assert speaker.peak > 20


def test_a_client_that_was_held_up_is_counted_from_the_due_time() -> None:
    class Blocking(SlowSpeaker):
        async def speak(self, text: str, recorder: Recorder) -> Measure:
            if not self.sent_at_s:
                deadline_s = now_s() + 0.2
                while now_s() < deadline_s:  # holds up everybody
                    pass
            return await super().speak(text, recorder)

    run, summary = perform(Blocking(0.0), OpenLoop(rate_per_s=100, requests=10, seed=1))
    assert summary.schedule_lag_ms is not None
    assert summary.schedule_lag_ms.max > 100
    late = max(run.measures, key=lambda measure: measure.lag_ms)
    assert late.audible_ms is not None and late.audible_ms >= late.lag_ms


def test_a_duration_ends_a_closed_loop() -> None:
    _, summary = perform(SlowSpeaker(0.01), ClosedLoop(concurrency=2, duration_s=0.1))
    assert 2 <= summary.requests <= 30


def test_a_caller_listens_to_the_end_before_the_next_turn() -> None:
    speaker = SlowSpeaker(0.0, audio_s=0.1)
    perform(speaker, ClosedLoop(requests=2, play_out=True, think_s=0.05))
    first_s, second_s = speaker.sent_at_s
    assert second_s - first_s >= 0.149


def test_warm_up_is_not_counted() -> None:
    speaker = SlowSpeaker(0.0)

    async def both() -> Summary:
        run = Run(speaker, TextSource(salt=1))
        await run.warm_up(3)
        return await run.perform(ClosedLoop(requests=2))

    assert asyncio.run(both()).requests == 2
    assert len(speaker.sent_at_s) == 5


@pytest.mark.parametrize("transport", ["http", "ws"])
def test_both_loads_reach_a_server(stand_in: Any, transport: Any) -> None:
    async def both() -> tuple[Summary, Summary]:
        speaker = open_speaker(Target(url=stand_in.url, transport=transport))
        texts = TextSource(salt=1)
        patient = Listening((5000.0,))
        closed = await Run(speaker, texts, patient).perform(ClosedLoop(concurrency=4, requests=12))
        opened = await Run(speaker, texts, patient).perform(OpenLoop(rate_per_s=200, requests=12))
        await speaker.aclose()
        return closed, opened

    closed, opened = asyncio.run(both())
    assert closed.clean and opened.clean
    assert len(set(stand_in.texts)) == 24


class Limited(SlowSpeaker):
    """The end of a stream comes late while more than ``capacity`` are spoken at once."""

    def __init__(self, capacity: int) -> None:
        super().__init__(0.05)
        self.capacity = capacity

    async def speak(self, text: str, recorder: Recorder) -> Measure:
        self.running += 1
        recorder.format(8000)
        recorder.pcm(now_s(), b"\x00\x40" * 80)
        await asyncio.sleep(self.takes_s)
        late_s = 0.2 if self.running > self.capacity else -1.0
        recorder.pcm(now_s() + late_s, b"\x00\x40" * 80)
        await asyncio.sleep(0)
        self.running -= 1
        return recorder.finish(now_s())


def test_find_max_stops_where_callers_hear_a_gap() -> None:
    speaker = Limited(capacity=5)
    levels: dict[int, bool] = {}

    def note(calls: int, summary: Summary) -> None:
        levels[calls] = summary.clean

    def make_run() -> Run:
        return Run(speaker, TextSource(salt=1))

    probe = call_probe(make_run, ClosedLoop(requests=1), note)
    assert asyncio.run(find_max(probe, limit=32)) == 5
    assert levels == {1: True, 2: True, 4: True, 8: False, 6: False, 5: True}
