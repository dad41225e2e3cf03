"""The rows on the device: prompts in, one frame of all rows at a time out, codes to sound."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention import SDPBackend

from vivavoce.engines.qwen3.agreement import fused_talker
from vivavoce.engines.qwen3.beginning import Beginning, KeptVoices, Part, pieces_of
from vivavoce.engines.qwen3.captured import CapturedParts, Sounded, codes_and_status
from vivavoce.engines.qwen3.capturing import Capturing
from vivavoce.engines.qwen3.codec.state import DecoderState
from vivavoce.engines.qwen3.codec_windows import Sounding
from vivavoce.engines.qwen3.frame import FrameIds, frame
from vivavoce.engines.qwen3.fused import FusedTalker
from vivavoce.engines.qwen3.model import Model
from vivavoce.engines.qwen3.pace import Costs
from vivavoce.engines.qwen3.planned import state_bytes
from vivavoce.engines.qwen3.prompt import Layout, Reference, Speaking, embed, plan
from vivavoce.engines.qwen3.rows import RowOptions, Rows, Undo
from vivavoce.engines.qwen3.uncaptured import FrameSizes, sized
from vivavoce.engines.qwen3.voices import ClonedVoice
from vivavoce.runtime import cuda
from vivavoce.runtime.device_errors import is_out_of_memory, twice
from vivavoce.runtime.kernels.dispatch import Kernels, Path, chosen
from vivavoce.runtime.kernels.frame_ends import Status
from vivavoce.types import Samples

SHORTLIST = 64
"""Where every row keeps so few codes by top-k, choosing needs no sort; published models keep 50."""

PROMPT = 64
"""Positions of the prompt whose attention is told."""

Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Words:
    """What a row begins with, as the engine says it: no tensors.

    ``speaker`` is a name of the configuration, ``clone`` a voice from a recording.
    """

    text_ids: Sequence[int]
    language: str
    speaker: str | None = None
    clone: ClonedVoice | None = None
    instruct_ids: Sequence[int] = ()
    whole: bool = False
    text_open: bool = False

    def speaking(self) -> Speaking:
        """With tensors."""
        clone, reference, x_vector = self.clone, None, None
        if clone is not None:
            x_vector = torch.from_numpy(clone.x_vector)
            if clone.codes is not None and clone.text_ids is not None:
                reference = Reference(clone.text_ids.tolist(), torch.from_numpy(clone.codes))
        return Speaking(
            self.text_ids,
            self.language,
            self.speaker,
            x_vector,
            self.instruct_ids,
            reference,
            Layout.WHOLE if self.whole else Layout.STREAMING,
            self.text_open,
        )


@dataclass(frozen=True, slots=True)
class Frame:
    """What one frame gave: ``codes`` int64 [rows, 16] and each row's status."""

    codes: Codes
    status: tuple[Status, ...]


class _Tenancy(NamedTuple):
    """Whose a row is, and how often it got text: what a frame on its way may not know of."""

    tenants: int = 0
    texts: int = 0


@dataclass(frozen=True, slots=True)
class Flight:
    """A frame on its way to the host."""

    _told: Callable[[], Codes]
    _then: tuple[_Tenancy, ...]
    _now: Sequence[_Tenancy]
    _drop: Callable[[], None]

    def land(self) -> Frame:
        """Wait for it. Rows that were released since are idle; who got text since does not wait."""
        told = self._told()
        status = []
        for bits, then, now in zip(told[:, -1], self._then, self._now, strict=False):
            each = Status(int(bits)) if then.tenants == now.tenants else Status(0)
            status.append(each if then == now else each & ~Status.WAITING)
        return Frame(told[:, :-1], tuple(status))

    def drop(self) -> None:
        """Nobody wants it."""
        self._drop()


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
        self._model = model
        self._ids = FrameIds.of(model.config)
        self._positions = positions
        self._rows = Rows(model.config.talker, rows, positions, model.talker.codec_head.weight)
        self._captured: CapturedParts | None = None
        self.compiled = "off" if capturing is None else capturing.compiled
        if capturing is not None:
            capturing.api.enter()
        kernels = kernels or chosen(model.place.device, model.place.dtype)
        self._fused = fused_talker(model.talker, kernels, self._rows.state)
        self._sizes: FrameSizes | None = None
        if self._fused is not None and capturing is None:
            self._sizes = sized(model.talker, self._rows.state, self._ids, self._fused)
            self._fused = self._fused if self._sizes else None
        self._kernels = kernels.why if self._fused or kernels.path is Path.TORCH else "they failed"
        if capturing is not None:
            self._captured = CapturedParts(capturing, model, self._rows, SHORTLIST, self._fused)
            self._captured.warm()
            self._codec = self._captured.windows.state
        else:
            self._codec = model.codec.init_state(rows)
        self._at = [0] * rows
        self._tenancies = [_Tenancy()] * rows
        device = model.place.device
        self._scarce = device.type == "cuda"
        self._kept = KeptVoices(device)
        self._make_room = lambda: cuda.empty_cache(device)
        # Asked here, because it takes memory: nothing that is told later may lack it.
        chosen_for = twice(lambda: [self._attention(n) for n in (PROMPT, 1)], self._make_room)
        self._told_attention = "prompts: {}; frames: {} (PyTorch's own)".format(*chosen_for)
        captures = None if self._captured is None else self._captured.frames.captures
        plainly = captures is None or captures.counts.failed > 0
        self._undo = Undo(self._rows.state) if plainly else None  # A replay takes no memory.
        self._first: set[int] = set()
        self._sorting: set[int] = set()

    @property
    def late(self) -> bool:
        """Whether a frame is best read after the next was launched."""
        return self._captured is not None

    @property
    def fused(self) -> FusedTalker | None:
        """The passes of a frame that are made of kernels; None where the modules run."""
        return self._fused

    def costs(self) -> Costs | None:
        """What its stages take on this device; None where they were not captured."""
        return None if self._captured is None else self._captured.costs()

    @property
    def on_the_way(self) -> int:
        """Host buffers with something nobody took yet."""
        return 0 if self._captured is None else self._captured.in_use

    def close(self) -> None:
        """Give back what was captured; nothing can be done after it."""
        if self._captured is not None:
            self._captured.close()
            self._captured = None

    def begin(self, row: int, words: Words, options: RowOptions) -> None:
        """Prefill and admit. Raises InputError for what leaves no room to speak."""
        beginning = self.start(row, words, options)
        while not beginning.advance():
            pass

    def start(self, row: int, words: Words, options: RowOptions) -> Beginning:
        """Prefill and admit piece by piece. Raises InputError for what leaves no room to speak."""
        model, clone, speaking = self._model, words.clone, words.speaking()
        laid = plan(model.config, speaking)
        length = len(laid.rows)
        self._rows.check_room(length)
        kept = self._kept.beginning(laid, clone)

        def read(start: int, stop: int) -> Tensor:
            if kept is not None and start == laid.fixed:
                self._rows.restore(row, kept)
            return self._read(row, embed(model.talker, laid.rows[start:stop], speaking), start)

        def keep(start: int, stop: int) -> None:
            read(start, stop)
            self._kept.remember(laid, clone, self._rows.keep(row, stop))

        def admit(start: int, stop: int) -> None:
            hidden = read(start, stop)
            self._start_codec(row, self._primed(clone))
            self._rows.admit(row, hidden, length, laid.trailing, options, text_open=words.text_open)
            self._began(row, length, options)

        # What a voice's prompts begin with is always read by itself, so that the voice sounds the
        # same the first time.
        fixed = [] if kept is not None or not laid.fixed else pieces_of(0, laid.fixed)
        rest = pieces_of(laid.fixed, length)
        works = [*[read] * len(fixed[:-1]), *[keep] * len(fixed[-1:]), *[read] * len(rest[:-1])]
        pieces = zip([*works, admit], fixed + rest, strict=True)
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
        self._tenancies[row] = _Tenancy(self._tenancies[row].tenants + 1)
        self._first.discard(row)
        self._sorting.discard(row)

    def frame(self, width: int) -> Frame:
        """Advance the first ``width`` rows by one frame, and wait for it."""
        return self.launch(width).land()

    def launch(self, width: int) -> Flight:
        """Begin to advance the first ``width`` rows by one frame."""
        span = min(max(self._at[:width]) + 1, self._positions)
        begun = any(at > 0 and row not in self._first for row, at in enumerate(self._at[:width]))
        most = 0 if self._sorting else SHORTLIST
        flight = twice(lambda: self._launch(width, span, begun, most), self._make_room)
        self._first.difference_update(range(width))
        for row in range(width):
            self._at[row] += self._at[row] > 0
        return flight

    def _launch(self, width: int, span: int, begun: bool, most: int) -> Flight:
        """One that breaks off leaves the rows as they were."""
        if self._undo is None:
            return self._launched(width, span, begun, most)
        self._undo.note()
        try:
            return self._launched(width, span, begun, most)
        except RuntimeError as error:
            if is_out_of_memory(error):
                self._undo.restore()
            raise

    def _launched(self, width: int, span: int, begun: bool, most: int) -> Flight:
        then = tuple(self._tenancies[:width])
        if self._captured is not None:
            arrival = self._captured.frame(width, step=begun, most=most)
            return Flight(
                lambda: codes_and_status(arrival.take(), width),
                then,
                self._tenancies,
                arrival.release,
            )
        state = self._rows.first(width)
        if self._sizes is not None:
            self._sizes.run(width, step=begun)
        else:
            frame(self._model.talker, state, self._ids, span, step=begun, most=most)
        values = torch.cat((state.codes, state.status[:, None]), 1).cpu().numpy()
        return Flight(lambda: values, then, self._tenancies, _nothing)

    @property
    def captured_rows(self) -> int | None:
        """Rows of the batch where chunks of sound run in captured sizes; None where they do not."""
        return None if self._captured is None else len(self._rows.state.status)

    def send(
        self, rows: Sequence[int], codes: Codes, *, last: bool = False, urgent: bool = False
    ) -> Sounding | Sounded:
        """Begin to decode the next ``codes`` [len(rows), T, 16] of some rows.

        ``last``: none of them goes on after it. ``urgent``: before the next frame.
        """
        captured = self._captured
        if captured is not None:
            windows = captured.windows
            work = partial(windows.decode, rows, codes, last=last, urgent=urgent)
            return twice(work, self._make_room)
        return Sounded(twice(lambda: self.decode(rows, codes), self._make_room))

    @torch.no_grad()
    def decode(self, rows: Sequence[int], codes: Codes) -> list[Samples]:
        """The next ``codes`` [len(rows), T, 16] of some rows to their sound, T * 1920 each."""
        given = torch.from_numpy(codes).to(self._model.place.device)
        together = rows[-1] - rows[0] + 1 == len(rows)
        # The decoder moves a state on layer by layer. Where memory may end half-way it is a copy.
        in_place = together and not self._scarce
        state = self._codec.view(rows[0], rows[-1] + 1) if in_place else self._codec.gather(rows)
        samples = self._model.codec.decode(given, state).float().cpu().numpy()
        if not in_place:
            for number, row in enumerate(rows):
                self._codec.copy_row(row, state, number)
        return [np.array(each, np.float32) for each in samples]

    def memory_bytes(self) -> int:
        """Memory of the rows: keys, values, buffers and codec states."""
        return state_bytes(self._rows.state) + self._codec.row_bytes * self._codec.batch

    def kernels(self) -> str:
        """What computes a frame, and why."""
        return f"{'triton' if self._fused else 'torch'} ({self._kernels})"

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
        return {} if self._captured is None else self._captured.details()

    def _read(self, row: int, prompt: Tensor, start: int) -> Tensor:
        """A piece of a prompt [N, H] behind ``start`` positions: the last hidden state [H]."""
        hidden = None
        if self._captured is not None:
            hidden = self._captured.prompts.run(row, prompt, start)
        if hidden is None:  # it would be padded beyond the row's end
            hidden = self._rows.prefill(self._model.talker, row, prompt, start)
        return hidden

    def _got_text(self, row: int) -> None:
        tenants, texts = self._tenancies[row]
        self._tenancies[row] = _Tenancy(tenants, texts + 1)

    def _primed(self, clone: ClonedVoice | None) -> DecoderState | None:
        if clone is None or not clone.codec_state:
            return None
        return self._kept.primed(clone, self._codec)

    def _start_codec(self, row: int, state: DecoderState | None) -> None:
        if self._captured is not None:
            self._captured.windows.begin(row, state)
        elif state is None:
            self._codec.reset(row)
        else:
            self._codec.copy_row(row, state)


def _nothing() -> None:
    """To drop what nobody holds."""
