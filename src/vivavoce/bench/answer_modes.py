"""What a caller waits, by when the server answers: after it has played, spoken, begun, or at once.

A server that plays before it answers makes its caller wait for a whole reply's sound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from vivavoce.bench.clients import HttpSpeaker, Target
from vivavoce.bench.clients.base import now_s
from vivavoce.bench.clients.playing import PlayClient
from vivavoce.bench.device import provenance
from vivavoce.bench.heard import Breakdown, Listening, Recorder
from vivavoce.bench.results import SCHEMA
from vivavoce.bench.stats import Distribution
from vivavoce.bench.texts import TextSource
from vivavoce.errors import Unavailable

STREAM = "stream"
WAYS: Mapping[str, str] = {
    "played": "when played",
    "done": "when made",
    "start": "at first sound",
    STREAM: "as a stream",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One request: how long its caller waited, for what, and how much sound it was about."""

    way: str
    waited_ms: float
    breakdown: Breakdown | None
    audio_s: float


@dataclass(slots=True)
class Comparison:
    """Asks for the same texts in each way, in turns; a seed keeps caches from answering."""

    target: Target
    texts: TextSource = field(default_factory=TextSource)
    answers: list[Answer] = field(default_factory=list)

    async def perform(
        self, rounds: int, warm_up: int = 1, on_answer: Callable[[Answer], None] | None = None
    ) -> None:
        """Ask ``rounds`` times in each way. Raises Unsupported, Unavailable."""
        async with aclosing(PlayClient(self.target)) as desk:
            await desk.stop()
            for number in range(-warm_up, rounds):
                text = self.texts.next()
                for place, way in enumerate(WAYS):
                    answer = await self._ask(desk, way, text, seed=(number + warm_up) * 4 + place)
                    await desk.stop()
                    if number >= 0:
                        self.answers.append(answer)
                        if on_answer:
                            on_answer(answer)

    async def _ask(self, desk: PlayClient, way: str, text: str, seed: int) -> Answer:
        if way != STREAM:
            return Answer(way, *await desk.play(text, way, seed))
        target = replace(self.target, path=None, transport="http", seed=seed)
        async with aclosing(HttpSpeaker(target)) as speaker:
            recorder = Recorder(text, now_s(), Listening())
            measure = await speaker.speak(text, recorder)
        if measure.failure is not None or measure.first_byte_ms is None:
            raise Unavailable(f"The stream failed: {measure.failure}")
        waited_ms = measure.first_byte_ms - measure.lag_ms
        return Answer(way, waited_ms, measure.breakdown, measure.audio_s)

    def rows(self) -> list[list[object]]:
        """A row for each way: its name, then medians of the wait, its parts, and the sound."""
        return [[WAYS[way], *self._medians(way)] for way in WAYS]

    def report(self) -> dict[str, Any]:
        """As it is stored: provenance, target, a distribution for each way, every answer."""
        target = asdict(self.target)
        del target["api_key"]
        waits = {way: self._waits(way) for way in WAYS}
        return {
            "schema": SCHEMA,
            "kind": "playback",
            **provenance(),
            "target": target,
            "waited_ms": {way: found and asdict(found) for way, found in waits.items()},
            "each": [asdict(answer) for answer in self.answers],
        }

    def _waits(self, way: str) -> Distribution | None:
        return Distribution.of(answer.waited_ms for answer in self.answers if answer.way == way)

    def _medians(self, way: str) -> list[float | None]:
        own = [answer for answer in self.answers if answer.way == way]
        parts = [answer.breakdown for answer in own if answer.breakdown is not None]
        figures = [
            Distribution.of(answer.waited_ms for answer in own),
            *(
                Distribution.of(getattr(part, name) for part in parts)
                for name in ("queue_ms", "inference_ms", "playback_ms", "network_ms")
            ),
            Distribution.of(answer.audio_s for answer in own),
        ]
        return [None if figure is None else figure.p50 for figure in figures]


COLUMNS = ("answer", "wait", "queue", "inference", "playback", "network", "made, s")
