"""Frames and sound on their way from the device, so that the host never waits without need."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from vivavoce.engines.qwen3.chunks import by_size
from vivavoce.engines.qwen3.row_speech import RowSpeech

if TYPE_CHECKING:
    from vivavoce.engines.qwen3.batch import Batch, Flight, Frame
    from vivavoce.engines.qwen3.captured import Sounded
    from vivavoce.engines.qwen3.codec_windows import Sounding


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Sound on its way, and whose it is."""

    speeches: Sequence[RowSpeech]
    sounding: Sounding | Sounded


@dataclass(slots=True)
class Pipeline:
    """What was launched and not yet read: at most one frame, and chunks in the order sent."""

    flight: Flight | None = None
    chunks: list[_Chunk] = field(default_factory=list)

    def frame(self, batch: Batch, width: int) -> Frame | None:
        """Launch a frame of the first ``width`` rows (0: none); the one before, if there is one.

        Where nothing is captured it is this one.
        """
        landing, self.flight = self.flight, batch.launch(width) if width else None
        if landing is None and not batch.late:
            landing, self.flight = self.flight, None
        return None if landing is None else landing.land()

    def decode(self, batch: Batch, due: Mapping[int, int], all_: Mapping[int, RowSpeech]) -> None:
        """Send the next frames of the rows that are due (0: not), equally long ones together.

        Whose playback runs dry first goes first.
        """
        groups = [(frames, rows, [all_[row] for row in rows]) for frames, rows in by_size(due)]
        for frames, rows, speeches in sorted(groups, key=lambda group: _dry_s(group[2])):
            with timed(speeches, "codec"):
                codes = np.stack([speech.pop(frames) for speech in speeches])
                last = all(speech.ended and not speech.waiting for speech in speeches)
                self.chunks.append(_Chunk(speeches, batch.send(rows, codes, last=last)))
            for speech in speeches:
                speech.travelling += 1

    def hear(self) -> None:
        """Take the sound that is there; a first sound is waited for, or any if all else is done."""
        while self.chunks and self._awaited(self.chunks[0]):
            chunk = self.chunks.pop(0)
            with timed(chunk.speeches, "codec"):
                sounds = chunk.sounding.take()
            for speech, samples in zip(chunk.speeches, sounds, strict=True):
                speech.travelling -= 1
                speech.heard(samples)

    def settle(self) -> None:
        """Nobody is left: what is on its way is not wanted."""
        flight, self.flight = self.flight, None
        if flight is not None:
            flight.drop()
        for chunk in self.chunks:
            chunk.sounding.release()
        self.chunks.clear()

    def _awaited(self, chunk: _Chunk) -> bool:
        silent = any(not speech.audible for each in self.chunks for speech in each.speeches)
        return silent or self.flight is None or chunk.sounding.ready()


@contextmanager
def timed(speeches: Sequence[RowSpeech], stage: str) -> Iterator[None]:
    """Note for all of them what the work inside took."""
    began_s = time.perf_counter()
    yield
    spent_ms = (time.perf_counter() - began_s) * 1000
    for speech in speeches:
        speech.spent(stage, spent_ms)


def _dry_s(speeches: Sequence[RowSpeech]) -> float:
    return min(speech.dry_s for speech in speeches)
