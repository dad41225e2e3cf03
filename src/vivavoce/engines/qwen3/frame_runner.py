"""What advances the rows of a batch on its device: the modules, kernels, or captured graphs.

A batch keeps its slots and asks a ``FrameRunner`` for frames, for prompts that are read, and for
sound. Which of the three it gets depends on the device and the options (``runner_for``).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vivavoce.engines.qwen3.agreement import UNUSABLE, fused_talker, room_on
from vivavoce.engines.qwen3.codec.state import DecoderState
from vivavoce.engines.qwen3.codec_windows import CodecWindows, PendingAudio, ReadyAudio
from vivavoce.engines.qwen3.frame import FrameIds, frame
from vivavoce.engines.qwen3.fused import FusedTalker
from vivavoce.engines.qwen3.graphs import Capturing, CopiedCodes, FrameGraphs, PrefillGraphs
from vivavoce.engines.qwen3.model import Model
from vivavoce.engines.qwen3.pace import RAMP, Costs
from vivavoce.engines.qwen3.rows import Rows
from vivavoce.runtime.device_errors import twice
from vivavoce.runtime.graphs.api import BATCH_BUCKETS, Work, bucket_over, buckets_to
from vivavoce.runtime.graphs.transfer import HostRing
from vivavoce.runtime.kernels.dispatch import Kernels

log = logging.getLogger(__name__)

Codes = NDArray[np.int64]

SHORTLIST = 64
"""Where every row keeps so few codes by top-k, choosing needs no sort; published models keep 50."""

PENDING_FRAMES = 3
"""Frames whose codes are on their way to the host, before the ring grows."""

ROUNDS = 6


class PendingCodes(Protocol):
    """A frame on its way to the host."""

    def take(self) -> Codes:
        """Wait for it: [width, 17], the codes of each row and then its status."""
        ...

    def release(self) -> None:
        """Nobody wants it."""
        ...


@dataclass(frozen=True, slots=True)
class ReadyCodes:
    """A frame that is there already."""

    codes: Codes

    def take(self) -> Codes:
        """All of it."""
        return self.codes

    def release(self) -> None:
        """Nothing is held."""


class FrameRunner(Protocol):
    """Frames, prompts and sound of the rows of a batch. Nothing here is tried a second time."""

    @property
    def late(self) -> bool:
        """Whether a frame is best read after the next was launched."""
        ...

    @property
    def breaks_off(self) -> bool:
        """Whether a frame may run out of memory half-way; a replay takes none."""
        ...

    @property
    def fused(self) -> FusedTalker | None:
        """The passes of a frame that are made of kernels; None where the modules run."""
        ...

    @property
    def codec_state(self) -> DecoderState:
        """The codec's states of all rows."""
        ...

    @property
    def captured_rows(self) -> int | None:
        """Rows of the batch where chunks of sound run in captured sizes; else None."""
        ...

    @property
    def in_use(self) -> int:
        """Host buffers with something nobody took yet."""
        ...

    def frame(self, width: int, span: int, *, step: bool, most: int) -> PendingCodes:
        """Advance the first ``width`` rows by one frame; the others as ``frame.frame`` takes them.

        Rows behind ``width`` must be idle.
        """
        ...

    def read(self, row: int, prompt: Tensor, start: int) -> Tensor:
        """A piece of a prompt [N, H] behind ``start`` positions: the last hidden state [H]."""
        ...

    def begin_codec(self, row: int, state: DecoderState | None) -> None:
        """A row's sound begins: as new, or as row 0 of ``state`` left off."""
        ...

    def decode(
        self, rows: Sequence[int], codes: Codes, *, last: bool = False, urgent: bool = False
    ) -> PendingAudio | ReadyAudio:
        """Begin to decode the next ``codes`` [len(rows), T, 16] of some rows.

        ``last``: none of them goes on after it. ``urgent``: before the next frame.
        """
        ...

    def costs(self) -> Costs | None:
        """What its stages take on this device; None where they were not captured."""
        ...

    def details(self) -> dict[str, int]:
        """Counts of captures, where there are any."""
        ...

    def close(self) -> None:
        """Give back what was captured; nothing can be done after it."""
        ...


def runner_for(
    model: Model, rows: Rows, capturing: Capturing | None, kernels: Kernels
) -> FrameRunner:
    """Captured graphs with ``capturing``, else kernels where they work, else the modules."""
    if capturing is not None:
        capturing.api.enter()
    fused = fused_talker(model.talker, kernels, rows.state)
    if capturing is not None:
        graphs = GraphRunner(capturing, model, rows, fused)
        graphs.warm()
        return graphs
    by_kernels = None if fused is None else KernelRunner.warmed(model, rows, fused)
    return by_kernels or EagerRunner(model, rows)


class EagerRunner:
    """By the modules; each call waits for its own."""

    late = False
    breaks_off = True
    captured_rows: int | None = None
    in_use = 0
    fused: FusedTalker | None = None

    def __init__(self, model: Model, rows: Rows) -> None:
        self._model, self._rows, self._ids = model, rows, FrameIds.of(model.config)
        self.codec_state = model.codec.init_state(len(rows.state.status))
        # The decoder moves a state on layer by layer. Where memory may end half-way it is a copy.
        self.scarce = model.place.device.type == "cuda"

    def frame(self, width: int, span: int, *, step: bool, most: int) -> PendingCodes:
        """As ``FrameRunner.frame``."""
        state = self._rows.first(width)
        frame(self._model.talker, state, self._ids, span, step=step, most=most)
        return self._told(width)

    def _told(self, width: int) -> ReadyCodes:
        state = self._rows.state
        told = torch.cat((state.codes[:width], state.status[:width, None]), 1)
        return ReadyCodes(told.cpu().numpy())

    def read(self, row: int, prompt: Tensor, start: int) -> Tensor:
        """As ``FrameRunner.read``."""
        return self._rows.prefill(self._model.talker, row, prompt, start)

    def begin_codec(self, row: int, state: DecoderState | None) -> None:
        """As ``FrameRunner.begin_codec``."""
        if state is None:
            self.codec_state.reset(row)
        else:
            self.codec_state.copy_row(row, state)

    @torch.no_grad()
    def decode(
        self, rows: Sequence[int], codes: Codes, *, last: bool = False, urgent: bool = False
    ) -> ReadyAudio:
        """As ``FrameRunner.decode``."""
        given = torch.from_numpy(codes).to(self._model.place.device)
        together = rows[-1] - rows[0] + 1 == len(rows)
        in_place, states = together and not self.scarce, self.codec_state
        state = states.view(rows[0], rows[-1] + 1) if in_place else states.gather(rows)
        samples = self._model.codec.decode(given, state).float().cpu().numpy()
        if not in_place:
            for number, row in enumerate(rows):
                states.copy_row(row, state, number)
        return ReadyAudio([np.array(each, np.float32) for each in samples])

    def costs(self) -> Costs | None:
        """None: nothing was captured."""
        return None

    def details(self) -> dict[str, int]:
        """None."""
        return {}

    def close(self) -> None:
        """Nothing was captured."""


class KernelRunner(EagerRunner):
    """Frames by kernels without captures, in the sizes that would be captured.

    A kernel of other sizes is another kernel.
    """

    def __init__(self, model: Model, rows: Rows, fused: FusedTalker) -> None:
        super().__init__(model, rows)
        self.fused = fused
        count, self._positions = rows.state.text.shape
        self._batches = buckets_to(count, BATCH_BUCKETS)

    @classmethod
    def warmed(cls, model: Model, rows: Rows, fused: FusedTalker) -> KernelRunner | None:
        """Every size made once, so that no call waits for a compiler; None where one fails."""
        runner = cls(model, rows, fused)
        try:
            twice(runner.warm, room_on(rows.state))
        except UNUSABLE as error:
            log.warning("No kernels for frames: %s", error)
            return None
        return runner

    def warm(self) -> None:
        """One frame of each size; all rows must be idle."""
        for rows in self._batches:
            self._run(rows, step=True)

    def frame(self, width: int, span: int, *, step: bool, most: int) -> PendingCodes:
        """As ``FrameRunner.frame``: kernels ask the device where rows stand, and never sort."""
        self._run(width, step=step)
        return self._told(width)

    def _run(self, width: int, *, step: bool) -> None:
        rows = bucket_over(width, self._batches)
        assert rows is not None, "more than the state has"
        state, talker = self._rows.first(rows), self._model.talker
        frame(talker, state, self._ids, self._positions, draw=self.fused, step=step)


class GraphRunner:
    """Captures over the rows of a batch, and what brings their results to the host.

    Frames and prompts are on one stream, chunks of sound on another.
    """

    late = True

    def __init__(
        self, capturing: Capturing, model: Model, rows: Rows, fused: FusedTalker | None = None
    ) -> None:
        api, state, ids = capturing.api, rows.state, FrameIds.of(model.config)
        self.api, self._rows, self._state, self._talker = api, rows, state, model.talker
        self.fused, self._closed = fused, False
        self.frames = FrameGraphs(api, model.talker, state, ids, SHORTLIST, fused)
        pool = self.frames.captures.pool
        self.prompts = PrefillGraphs(api, model.talker, state, pool)
        self.windows = CodecWindows(api, model.codec, len(state.status), capturing.mode)
        self.codec_state, self.captured_rows = self.windows.state, len(state.status)
        size = state.codes.numel() + state.status.numel()
        self._told = HostRing(api, state.codes, size, PENDING_FRAMES, "told")

    def warm(self) -> None:
        """Capture everything; no row may be in use."""
        for part in (self.frames, self.prompts, self.windows):
            part.warm()

    @property
    def breaks_off(self) -> bool:
        """Where a frame is not captured."""
        return self.frames.captures.counts.failed > 0

    @property
    def in_use(self) -> int:
        """Host buffers with something nobody took yet."""
        return self._told.in_use + self.windows.in_use

    def frame(self, width: int, span: int, *, step: bool, most: int) -> PendingCodes:
        """As ``FrameRunner.frame``."""
        self._told.make_room(self.api.main)  # before the frame, which must not be made twice
        self.frames.run(width, step=step, most=most)
        told = [self._state.codes[:width], self._state.status[:width]]
        return CopiedCodes(self._told.send(told, self.api.main), width)

    def read(self, row: int, prompt: Tensor, start: int) -> Tensor:
        """As ``FrameRunner.read``."""
        hidden = self.prompts.run(row, prompt, start)
        if hidden is None:  # it would be padded beyond the row's end
            hidden = self._rows.prefill(self._talker, row, prompt, start)
        return hidden

    def begin_codec(self, row: int, state: DecoderState | None) -> None:
        """As ``FrameRunner.begin_codec``."""
        self.windows.begin(row, state)

    def decode(
        self, rows: Sequence[int], codes: Codes, *, last: bool = False, urgent: bool = False
    ) -> PendingAudio:
        """As ``FrameRunner.decode``."""
        return self.windows.decode(rows, codes, last=last, urgent=urgent)

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
        took_ms = self._timed_ms(lambda: self.frames.run(rows, most=SHORTLIST))
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
        """Give graphs and host memory back; a second time does nothing."""
        if self._closed:
            return
        self._closed = True
        self.api.main.synchronize()
        self.windows.close()
        self.prompts.captures.release()
        self.frames.captures.release()
        self._told.close()
