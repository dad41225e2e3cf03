"""The rows on the device: prompts in, one frame of all rows at a time out, codes to sound."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend

from vivavoce.engines.qwen3.codec.state import DecoderState
from vivavoce.engines.qwen3.codec_windows import PendingAudio, ReadyAudio
from vivavoce.engines.qwen3.frame_runner import (
    SHORTLIST,
    Codes,
    PendingCodes,
    runner_for,
)
from vivavoce.engines.qwen3.fused import FusedTalker
from vivavoce.engines.qwen3.graphs import Capturing
from vivavoce.engines.qwen3.memory import state_bytes
from vivavoce.engines.qwen3.model import Model
from vivavoce.engines.qwen3.pace import Costs
from vivavoce.engines.qwen3.prefill import Beginning, KeptVoices, Part, pieces_of
from vivavoce.engines.qwen3.prompt import PromptRequest, embed, plan
from vivavoce.engines.qwen3.rows import RowOptions, Rows, Undo
from vivavoce.engines.qwen3.voices import ClonedVoice
from vivavoce.runtime import cuda
from vivavoce.runtime.device_errors import is_out_of_memory, twice
from vivavoce.runtime.kernels.dispatch import Kernels, Path, chosen
from vivavoce.runtime.kernels.frame_ends import Status

PROMPT = 64
"""Positions of the prompt whose attention is told."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What one frame gave: ``codes`` int64 [rows, 16] and each row's status."""

    codes: Codes
    status: tuple[Status, ...]


class _Generation(NamedTuple):
    """How often a row was released, and got text: a frame launched before that does not know."""

    releases: int = 0
    texts: int = 0


@dataclass(frozen=True, slots=True)
class PendingFrame:
    """A frame on its way to the host."""

    _codes: PendingCodes
    _then: tuple[_Generation, ...]
    _now: Sequence[_Generation]

    def result(self) -> Frame:
        """Wait for it. Rows that were released since are idle; who got text since does not wait."""
        told = self._codes.take()
        status = []
        for bits, then, now in zip(told[:, -1], self._then, self._now, strict=False):
            each = Status(int(bits)) if then.releases == now.releases else Status(0)
            status.append(each if then == now else each & ~Status.WAITING)
        return Frame(told[:, :-1], tuple(status))

    def drop(self) -> None:
        """Nobody wants it."""
        self._codes.release()


class Batch:
    """``rows`` rows of ``positions`` positions each, with a codec state for each.

    With ``capturing`` everything is captured, and results are read while later work is under way;
    without, each call waits for its own. ``compiled`` says how the codec is compiled. Where a GPU
    has no memory for a call, its cache is emptied and the call is tried once more; where that fails
    as well it raises NoDeviceMemory, and all rows are as they were before it.
    """

    def __init__(
        self,
        model: Model,
        rows: int,
        positions: int,
        capturing: Capturing | None = None,
        kernels: Kernels | None = None,
    ) -> None:
        """``kernels`` replaces those that the device gets."""
        device = model.place.device
        self._model, self._positions = model, positions
        self._rows = Rows(model.config.talker, rows, positions, model.talker.codec_head.weight)
        self.compiled = "off" if capturing is None else capturing.compiled
        kernels = kernels or chosen(device, model.place.dtype)
        self._runner = runner_for(model, self._rows, capturing, kernels)
        failed = self._runner.fused is None and kernels.path is not Path.TORCH
        self._kernels = "they failed" if failed else kernels.why
        self._at = [0] * rows
        self._generations = [_Generation()] * rows
        self._kept = KeptVoices(device)
        self._make_room = lambda: cuda.empty_cache(device)
        # Asked here, because it takes memory: nothing that is told later may lack it.
        chosen_for = twice(lambda: [self._attention(n) for n in (PROMPT, 1)], self._make_room)
        self._told_attention = "prompts: {}; frames: {} (PyTorch's own)".format(*chosen_for)
        self._undo = Undo(self._rows.state) if self._runner.breaks_off else None
        self._first: set[int] = set()
        self._sorting: set[int] = set()

    @property
    def late(self) -> bool:
        """Whether a frame is best read after the next was launched."""
        return self._runner.late

    @property
    def fused(self) -> FusedTalker | None:
        """The passes of a frame that are made of kernels; None where the modules run."""
        return self._runner.fused

    def costs(self) -> Costs | None:
        """What its stages take on this device; None where they were not captured."""
        return self._runner.costs()

    @property
    def on_the_way(self) -> int:
        """Host buffers with something nobody took yet."""
        return self._runner.in_use

    def close(self) -> None:
        """Give back what was captured; nothing can be done after it."""
        self._runner.close()

    def begin(self, row: int, request: PromptRequest, options: RowOptions) -> None:
        """Prefill and admit. Raises InputError for what leaves no room to speak."""
        beginning = self.start(row, request, options)
        while not beginning.advance():
            pass

    def start(self, row: int, request: PromptRequest, options: RowOptions) -> Beginning:
        """Prefill and admit piece by piece. Raises InputError for what leaves no room to speak."""
        model, clone, inputs = self._model, request.clone, request.inputs()
        planned = plan(model.config, inputs)
        length = len(planned.rows)
        self._rows.check_room(length)
        kept = self._kept.beginning(planned, clone)

        def read(start: int, stop: int) -> Tensor:
            if kept is not None and start == planned.prefix:
                self._rows.restore_prefix(row, kept)
            prompt = embed(model.talker, planned.rows[start:stop], inputs)
            return self._runner.read(row, prompt, start)

        def keep(start: int, stop: int) -> None:
            read(start, stop)
            self._kept.remember(planned, clone, self._rows.keep_prefix(row, stop))

        def admit(start: int, stop: int) -> None:
            hidden = read(start, stop)
            self._runner.begin_codec(row, self._primed(clone))
            self._rows.admit(
                row, hidden, length, planned.trailing, options, text_open=request.text_open
            )
            self._began(row, length, options)

        # What a voice's prompts begin with is always read by itself, so that the voice sounds the
        # same the first time.
        prefix = [] if kept is not None or not planned.prefix else pieces_of(0, planned.prefix)
        rest = pieces_of(planned.prefix, length)
        works = [*[read] * len(prefix[:-1]), *[keep] * len(prefix[-1:]), *[read] * len(rest[:-1])]
        pieces = zip([*works, admit], prefix + rest, strict=True)
        parts: deque[Part] = deque(partial(work, *piece) for work, piece in pieces)
        if clone is not None and clone.codec_state and not self._kept.has_primed(clone):
            parts.appendleft(partial(self._primed, clone))
        return Beginning(self._make_room, parts)

    def _began(self, row: int, length: int, options: RowOptions) -> None:
        self._at[row] = length
        self._first.add(row)
        if not (options.talker.fits(SHORTLIST) and options.codes.fits(SHORTLIST)):
            self._sorting.add(row)

    def extend(self, row: int, ids: Sequence[int]) -> None:
        """More text of a row that was begun open."""
        twice(lambda: self._rows.extend(row, ids), self._make_room)
        self._got_text(row)

    def finish(self, row: int) -> None:
        """No more text."""
        end = self._model.config.tts_eos_token_id
        twice(lambda: self._rows.finish(row, end), self._make_room)
        self._got_text(row)

    def release(self, row: int, *, failed: bool = False) -> None:
        """Make a row idle; what a ``failed`` one leaves behind is cleared."""
        self._rows.release(row)
        if failed:
            self._rows.scrub(row)
        self._at[row] = 0
        self._generations[row] = _Generation(self._generations[row].releases + 1)
        self._first.discard(row)
        self._sorting.discard(row)

    def frame(self, width: int) -> Frame:
        """Advance the first ``width`` rows by one frame, and wait for it."""
        return self.launch(width).result()

    def launch(self, width: int) -> PendingFrame:
        """Begin to advance the first ``width`` rows by one frame."""
        span = min(max(self._at[:width]) + 1, self._positions)
        begun = any(at > 0 and row not in self._first for row, at in enumerate(self._at[:width]))
        most = 0 if self._sorting else SHORTLIST
        run = partial(self._runner.frame, width, span, step=begun, most=most)
        codes = twice(lambda: self._undone(run), self._make_room)
        self._first.difference_update(range(width))
        for row in range(width):
            self._at[row] += self._at[row] > 0
        return PendingFrame(codes, tuple(self._generations[:width]), self._generations)

    def _undone(self, run: Callable[[], PendingCodes]) -> PendingCodes:
        """A frame; one that breaks off leaves the rows as they were."""
        if self._undo is None:
            return run()
        self._undo.note()
        try:
            return run()
        except RuntimeError as error:
            if is_out_of_memory(error):
                self._undo.restore()
            raise

    @property
    def captured_rows(self) -> int | None:
        """Rows of the batch where chunks of sound run in captured sizes; None where they do not."""
        return self._runner.captured_rows

    def send(
        self, rows: Sequence[int], codes: Codes, *, last: bool = False, urgent: bool = False
    ) -> PendingAudio | ReadyAudio:
        """Begin to decode the next ``codes`` [len(rows), T, 16] of some rows.

        ``last``: none of them goes on after it. ``urgent``: before the next frame.
        """
        work = partial(self._runner.decode, rows, codes, last=last, urgent=urgent)
        return twice(work, self._make_room)

    def memory_bytes(self) -> int:
        """Memory of the rows: keys, values, buffers and codec states."""
        codec = self._runner.codec_state
        return state_bytes(self._rows.state) + codec.row_bytes * codec.batch

    def kernels(self) -> str:
        """What computes a frame, and why."""
        return f"{'triton' if self._runner.fused else 'torch'} ({self._kernels})"

    def attention(self) -> str:
        """What PyTorch computes the attention of prompts and of frames with on this device."""
        return self._told_attention

    def _attention(self, steps: int) -> str:
        kv, shape = self._rows.state.kv, self._model.config.talker
        keys = kv.keys[0, :1]
        groups = shape.num_attention_heads // shape.num_key_value_heads
        query = keys[:, :, :1].expand(-1, -1, groups * steps, -1)
        mask = query.new_zeros(1, 1, groups * steps, keys.shape[2])
        chosen = torch._fused_sdp_choice(query, keys, keys, attn_mask=mask)
        return SDPBackend(chosen).name.lower()

    def details(self) -> dict[str, int]:
        """Counts of captures, where there are any."""
        return self._runner.details()

    def _got_text(self, row: int) -> None:
        releases, texts = self._generations[row]
        self._generations[row] = _Generation(releases, texts + 1)

    def _primed(self, clone: ClonedVoice | None) -> DecoderState | None:
        if clone is None or not clone.codec_state:
            return None
        return self._kept.primed(clone, self._runner.codec_state)
