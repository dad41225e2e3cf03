"""Frames and sound on their way from the device, so that the host never waits without need."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from vivavoce.engines.qwen3.pace import by_size
from vivavoce.engines.qwen3.row_speech import FRAME_SAMPLES, FrameCodes, RowSpeech
from vivavoce.runtime.device_errors import NoDeviceMemory

if TYPE_CHECKING:
    from vivavoce.engines.qwen3.batch import Batch, Frame, PendingFrame
    from vivavoce.engines.qwen3.codec_windows import PendingAudio, ReadyAudio
    from vivavoce.engines.qwen3.frame_runner import Codes


@dataclass(frozen=True, slots=True)
class _PendingChunk:
    """Sound on its way, whose it is, and how many frames of it are theirs."""

    speeches: Sequence[RowSpeech]
    frames: Sequence[int]
    audio: PendingAudio | ReadyAudio


@dataclass(slots=True)
class Pipeline:
    """What was launched and not yet read: at most one frame, and chunks in the order sent."""

    pending: PendingFrame | None = None
    urgent: bool = False
    """Whether somebody's first frame is on its way: its sound goes before the next frame."""
    chunks: list[_PendingChunk] = field(default_factory=list)

    def frame(self, batch: Batch, width: int, *, urgent: bool = False) -> Frame | None:
        """Launch a frame of the first ``width`` rows (0: none); the one before, if there is one.

        Where nothing is captured it is this one. ``urgent``: it is somebody's first. Raises
        NoDeviceMemory where nothing was launched; the one before is still there then.
        """
        launched = batch.launch(width) if width else None
        before, self.pending, self.urgent = self.pending, launched, urgent
        if before is None:
            return None if batch.late else self.result()
        return before.result()

    def result(self) -> Frame | None:
        """Wait for the frame on its way, where there is one."""
        pending, self.pending, self.urgent = self.pending, None, False
        return None if pending is None else pending.result()

    def decode(
        self,
        batch: Batch,
        due: Mapping[int, int],
        all_: Mapping[int, RowSpeech],
        *,
        urgent: bool = False,
    ) -> None:
        """Send the next frames of the rows that are due (0: not), as ``by_size`` groups them.

        Whose playback runs dry first goes first. ``urgent``: before the next frame. Where there is
        no memory for rows together they go one by one, and those it fails for end with it.
        """
        groups = [(rows, [all_[row] for row in rows]) for rows in by_size(due, batch.captured_rows)]
        for rows, speeches in sorted(groups, key=lambda group: _underrun_at_s(group[1])):
            with timed(speeches, "codec"):
                codes = [speech.pop(due[row]) for row, speech in zip(rows, speeches, strict=True)]
                last = all(speech.ended and not speech.waiting for speech in speeches)
                self._send(batch, rows, speeches, codes, {"last": last, "urgent": urgent})

    def _send(
        self,
        batch: Batch,
        rows: Sequence[int],
        speeches: Sequence[RowSpeech],
        codes: Sequence[FrameCodes],
        how: Mapping[str, bool],
    ) -> None:
        try:
            audio = batch.send(rows, _together(codes), **how)
        except NoDeviceMemory as error:
            if len(speeches) == 1:
                speeches[0].fail(error)
                return
            for number in range(len(speeches)):
                one = slice(number, number + 1)
                self._send(batch, rows[one], speeches[one], codes[one], how)
            return
        self.chunks.append(_PendingChunk(speeches, [len(each) for each in codes], audio))
        for speech in speeches:
            speech.traveling += 1

    def hear(self) -> None:
        """Take the sound that is there; a first sound is waited for, or any if all else is done."""
        while self.chunks and self._awaited(self.chunks[0]):
            chunk = self.chunks.pop(0)
            with timed(chunk.speeches, "codec"):
                sounds = chunk.audio.take()
            for speech, frames, samples in zip(chunk.speeches, chunk.frames, sounds, strict=True):
                speech.traveling -= 1
                speech.push_audio(samples[: frames * FRAME_SAMPLES])

    def settle(self) -> None:
        """Nobody is left: what is on its way is not wanted."""
        pending, self.pending, self.urgent = self.pending, None, False
        if pending is not None:
            pending.drop()
        for chunk in self.chunks:
            chunk.audio.release()
        self.chunks.clear()

    def _awaited(self, chunk: _PendingChunk) -> bool:
        silent = any(not speech.audible for each in self.chunks for speech in each.speeches)
        return silent or self.pending is None or chunk.audio.ready()


@contextmanager
def timed(speeches: Sequence[RowSpeech], stage: str) -> Iterator[None]:
    """Note for all of them what the work inside took."""
    began_s = time.perf_counter()
    yield
    spent_ms = (time.perf_counter() - began_s) * 1000
    for speech in speeches:
        speech.add_stage_ms(stage, spent_ms)


def _together(codes: Sequence[FrameCodes]) -> Codes:
    """[rows, T, 16]; who has fewer frames than T goes on no more, and what is behind is cut off."""
    together = np.zeros((len(codes), max(map(len, codes)), codes[0].shape[1]), codes[0].dtype)
    for row, each in enumerate(codes):
        together[row, : len(each)] = each
    return together


def _underrun_at_s(speeches: Sequence[RowSpeech]) -> float:
    return min(speech.clock.underrun_at_s for speech in speeches)
