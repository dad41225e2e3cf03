"""What the speech service reports about itself; metrics implement it, the default is silent."""

from __future__ import annotations

from typing import Literal, TypeAlias

from vivavoce.types import Timings

Outcome: TypeAlias = Literal[
    "ok", "rejected", "cancelled", "backpressure", "invalid", "deadline", "engine_error"
]


class SpeechObserver:
    """Base: every report is ignored. The first two are called on the engine thread."""

    def stepped(self, duration_s: float, live: int) -> None:
        """The engine took a step with ``live`` utterances in slots."""

    def released(self, waited_s: float) -> None:
        """A closed stream's slot became free ``waited_s`` after the close."""

    def waiting(self, running: int, waiting: int) -> None:
        """Requests in slots and in the queue changed."""

    def remembering(self, running: int, waiting: int) -> None:
        """The same for those whose speech is remembered."""

    def first_audio(self, timings: Timings) -> None:
        """A request's first sound left the service."""

    def chunk_gap(self, gap_s: float) -> None:
        """Time between two chunks of one request."""

    def underrun(self) -> None:
        """A chunk came after the caller's playback had run dry."""

    def rejected(self, spent_s: float) -> None:
        """A request was turned away, its whole answer ``spent_s`` after the end of its body."""

    def finished(self, outcome: Outcome, timings: Timings, transport: str) -> None:
        """A request ended."""
