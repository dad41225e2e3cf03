"""What a batch captures: frames and prompts on one stream, chunks of sound on another."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vivavoce.engines.qwen3.capturing import Capturing
from vivavoce.engines.qwen3.chunks import RAMP
from vivavoce.engines.qwen3.codec_windows import CodecWindows
from vivavoce.engines.qwen3.frame import FrameIds
from vivavoce.engines.qwen3.fused import FusedTalker
from vivavoce.engines.qwen3.graphs import FrameGraphs, PrefillGraphs
from vivavoce.engines.qwen3.model import Model
from vivavoce.engines.qwen3.pace import Costs
from vivavoce.engines.qwen3.rows import Rows
from vivavoce.runtime.graphs.api import BATCH_BUCKETS, Work, buckets_to
from vivavoce.runtime.graphs.transfer import HostRing, PendingCopy
from vivavoce.types import Samples

FLIGHTS = 3
"""Frames whose codes are on their way to the host, before the ring grows."""

ROUNDS = 6


@dataclass(frozen=True, slots=True)
class Sounded:
    """Sound that is there already, in the manner of ``CodecWindows.decode``."""

    samples: Sequence[Samples]

    def ready(self) -> bool:
        """It is."""
        return True

    def take(self) -> Sequence[Samples]:
        """All of it."""
        return self.samples

    def release(self) -> None:
        """Nothing is held."""


class CapturedParts:
    """Captures over the rows of a batch, and what brings their results to the host."""

    def __init__(
        self,
        capturing: Capturing,
        model: Model,
        rows: Rows,
        shortlist: int,
        fused: FusedTalker | None = None,
    ) -> None:
        """``shortlist``: what ``frame``'s ``most`` is where no row needs sorting."""
        api, state, ids = capturing.api, rows.state, FrameIds.of(model.config)
        self.api, self._state, self._shortlist = api, state, shortlist
        self.frames = FrameGraphs(api, model.talker, state, ids, shortlist, fused)
        pool = self.frames.captures.pool
        self.prompts = PrefillGraphs(api, model.talker, state, pool)
        self.windows = CodecWindows(api, model.codec, len(state.status), capturing.mode)
        size = state.codes.numel() + state.status.numel()
        self._told = HostRing(api, state.codes, size, FLIGHTS, "told")

    def warm(self) -> None:
        """Capture everything; no row may be in use."""
        for part in (self.frames, self.prompts, self.windows):
            part.warm()

    @property
    def in_use(self) -> int:
        """Host buffers with something nobody took yet."""
        return self._told.in_use + self.windows.in_use

    def frame(self, width: int, *, step: bool, most: int) -> PendingCopy:
        """A frame of the first rows; ``codes_and_status`` reads what arrives."""
        self._told.make_room(self.api.main)  # before the frame, which must not be made twice
        self.frames.run(width, step=step, most=most)
        told = [self._state.codes[:width], self._state.status[:width]]
        return self._told.send(told, self.api.main)

    def costs(self) -> Costs:
        """Measured on rows that never spoke. The largest chunk gives what each of its frames takes.

        A prompt costs what the slowest piece of one does.
        """
        buckets = buckets_to(len(self._state.status), BATCH_BUCKETS)
        frame_ms = {rows: self._frame_ms(rows) for rows in buckets}
        piece_ms = max(self._prompt_ms(length) for length in self.prompts.lengths)
        most, longest = len(self._state.status), max(RAMP)
        one_ms, all_ms = self._chunk_ms(1, 1), self._chunk_ms(most, longest)
        sound_ms = max(0.0, all_ms - one_ms) / max(1, most * longest - 1)
        return Costs(piece_ms, frame_ms, one_ms, sound_ms)

    def _prompt_ms(self, length: int) -> float:
        prompt = self._state.hidden.new_zeros(length, self._state.hidden.shape[1])
        start = self._state.text.shape[1] - length
        return self._timed_ms(lambda: self.prompts.run(0, prompt, start))

    def _frame_ms(self, rows: int) -> float:
        """Of rows that stand on the last position and wait for text: attention reads all they have,
        as of rows that speak, and nothing of theirs moves on.
        """
        active = self._state.active[:rows]
        active.fill_(True)
        took_ms = self._timed_ms(lambda: self.frames.run(rows, most=self._shortlist))
        active.fill_(False)
        return took_ms

    def _chunk_ms(self, rows: int, frames: int) -> float:
        return self._timed_ms(lambda: self.windows.rehearse(rows, frames))

    def _timed_ms(self, work: Work) -> float:
        """The longest of a few."""
        took_s = []
        for _ in range(ROUNDS):
            began_s = time.perf_counter()
            work()
            self.api.main.synchronize()
            self.windows.stream.synchronize()
            took_s.append(time.perf_counter() - began_s)
        return max(took_s[1:]) * 1000

    def details(self) -> dict[str, int]:
        """Counts for metrics."""
        all_captures = (self.frames.captures, self.prompts.captures, self.windows.captures)
        return {
            "graphs_captured": sum(each.counts.captured for each in all_captures),
            "graphs_failed": self.windows.uncompiled
            + sum(each.counts.failed for each in all_captures),
            "graphs_replayed": sum(each.counts.replayed for each in all_captures),
            "graphs_eager": sum(each.counts.eager for each in all_captures),
            "graphs_mb": sum(each.size_bytes for each in all_captures) // 2**20,
        }

    def close(self) -> None:
        """Give graphs and host memory back."""
        self.api.main.synchronize()
        self.windows.close()
        self.prompts.captures.release()
        self.frames.captures.release()
        self._told.close()


def codes_and_status(told: torch.Tensor, width: int) -> NDArray[np.int64]:
    """What ``CapturedParts.frame`` sends, as [width, 17]: the codes, then the status."""
    codes, status = told[:-width].view(width, -1), told[-width:, None]
    return torch.cat((codes, status), 1).numpy()
