"""The rows on the device: prompts in, one frame of all rows at a time out, codes to sound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention import SDPBackend

from vivavoce.engines.capture.buckets import LENGTH_BUCKETS
from vivavoce.engines.capture.sent import sent_together
from vivavoce.engines.kernels.chooser import Kernels, Path, chosen
from vivavoce.engines.layers.kv import KVBuffer
from vivavoce.engines.qwen3.agreement import fused_talker
from vivavoce.engines.qwen3.budget import KEPT_PROMPTS_BYTES, KEPT_VOICES_BYTES
from vivavoce.engines.qwen3.captured import CapturedParts, Sounded, codes_and_status
from vivavoce.engines.qwen3.capturing import Capturing
from vivavoce.engines.qwen3.codec.state import DecoderState
from vivavoce.engines.qwen3.codec_windows import Sounding
from vivavoce.engines.qwen3.frame import FrameIds, Status, frame
from vivavoce.engines.qwen3.fused import FusedTalker
from vivavoce.engines.qwen3.model import Model
from vivavoce.engines.qwen3.pace import Costs
from vivavoce.engines.qwen3.planned import state_bytes
from vivavoce.engines.qwen3.prompt import Layout, Plan, Reference, Row, Speaking, embed, plan
from vivavoce.engines.qwen3.recent import Recent
from vivavoce.engines.qwen3.rows import RowOptions, Rows
from vivavoce.engines.qwen3.uncaptured import FrameSizes, sized
from vivavoce.engines.qwen3.voices import ClonedVoice
from vivavoce.errors import InputError, ModelFileError
from vivavoce.types import Samples

SHORTLIST = 64
"""Where every row keeps so few codes by top-k, choosing needs no sort; published models keep 50."""

PROMPT = 64
"""Positions of the prompt whose attention is told."""

KEPT_PROMPTS = 64
KEPT_VOICES = 64
"""How many beginnings of prompts and codec states stay on the device, within ``budget``'s bytes."""

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


@dataclass(frozen=True, slots=True)
class _Fixed:
    """Keys and values of a voice's first positions; ``clone`` keeps its id from being reused."""

    clone: ClonedVoice | None
    kv: KVBuffer


@dataclass(frozen=True, slots=True)
class _Primed:
    """A cloned voice's codec state on the device."""

    clone: ClonedVoice
    state: DecoderState


class Batch:
    """``rows`` rows of ``positions`` positions each, with a codec state for each.

    With ``capturing`` everything is captured, and results are read while later work is under way;
    without, each call waits for its own. ``compiled`` says how the codec is compiled.
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
        scarce = model.place.device.type == "cuda"  # A host's memory is bounded by their number.
        self._fixed: Recent[tuple[tuple[Row, ...], int], _Fixed] = Recent(
            KEPT_PROMPTS,
            KEPT_PROMPTS_BYTES,
            (lambda kept: kept.kv.keys.nbytes * 2) if scarce else None,
        )
        self._primed: Recent[int, _Primed] = Recent(
            KEPT_VOICES, KEPT_VOICES_BYTES, (lambda kept: kept.state.row_bytes) if scarce else None
        )
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

    @torch.no_grad()
    def begin(self, row: int, words: Words, options: RowOptions) -> None:
        """Prefill and admit. Raises InputError for what leaves no room to speak."""
        speaking = words.speaking()
        laid = plan(self._model.config, speaking)
        start = self._restore_fixed(row, laid, speaking, words.clone)
        prompt = embed(self._model.talker, laid.rows[start:], speaking)
        hidden = self._prefill(row, prompt, start)
        length = len(laid.rows)
        self._begin_codec(row, words.clone)
        self._at[row] = length
        self._first.add(row)
        if not (options.talker.fits(SHORTLIST) and options.codes.fits(SHORTLIST)):
            self._sorting.add(row)
        self._rows.admit(row, hidden, length, laid.trailing, options, text_open=words.text_open)

    def extend(self, row: int, ids: Sequence[int]) -> None:
        """More text of a row that was begun open."""
        self._rows.extend(row, ids)
        self._got_text(row)

    def finish(self, row: int) -> None:
        """No more text."""
        self._rows.finish(row, self._model.config.tts_eos_token_id)
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
        self._first.difference_update(range(width))
        for row in range(width):
            self._at[row] += self._at[row] > 0
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

    def send(self, rows: Sequence[int], codes: Codes, *, last: bool = False) -> Sounding | Sounded:
        """Begin to decode the next ``codes`` [len(rows), T, 16] of some rows.

        ``last``: none of them goes on after it.
        """
        if self._captured is not None:
            return self._captured.windows.decode(rows, codes, last=last)
        return Sounded(self.decode(rows, codes))

    @torch.no_grad()
    def decode(self, rows: Sequence[int], codes: Codes) -> list[Samples]:
        """The next ``codes`` [len(rows), T, 16] of some rows to their sound, T * 1920 each."""
        given = torch.from_numpy(codes).to(self._model.place.device)
        together = rows[-1] - rows[0] + 1 == len(rows)
        state = self._codec.view(rows[0], rows[-1] + 1) if together else self._codec.gather(rows)
        samples = self._model.codec.decode(given, state).float().cpu().numpy()
        if not together:
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
        return f"prompts: {self._attention(PROMPT)}; frames: {self._attention(1)} (PyTorch's own)"

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

    def _prefill(self, row: int, prompt: Tensor, start: int = 0) -> Tensor:
        hidden, room = None, self._positions - start
        if self._captured is not None and len(prompt) <= room:
            longest = max(each for each in LENGTH_BUCKETS if each <= self._positions)
            for at in _pieces(len(prompt), longest):
                hidden = self._captured.prompts.run(row, prompt[at : at + longest], start + at)
                if hidden is None:
                    break
        if hidden is None:
            hidden = self._rows.prefill(self._model.talker, row, prompt, start)
        return hidden

    def _got_text(self, row: int) -> None:
        tenants, texts = self._tenancies[row]
        self._tenancies[row] = _Tenancy(tenants, texts + 1)

    def _restore_fixed(
        self, row: int, laid: Plan, speaking: Speaking, clone: ClonedVoice | None
    ) -> int:
        """Put what all prompts of a voice begin with into a row; how many positions that is.

        Always computed by itself, so that a voice sounds the same the first time it is used.
        """
        if not laid.fixed:
            return 0

        def make() -> _Fixed:
            prompt = embed(self._model.talker, laid.rows[: laid.fixed], speaking)
            self._prefill(row, prompt)
            return _Fixed(clone, self._rows.keep(row, laid.fixed))

        fixed = self._fixed.get((laid.rows[: laid.fixed], id(clone)), make)
        return self._rows.restore(row, fixed.kv)

    def _begin_codec(self, row: int, clone: ClonedVoice | None) -> None:
        if clone is None or not clone.codec_state:
            self._start_codec(row, None)
            return

        def make() -> _Primed:
            saved = {name: torch.from_numpy(part) for name, part in clone.codec_state.items()}
            kept = sent_together(saved, self._model.place.device)
            try:
                return _Primed(clone, self._codec.with_tensors(kept))
            except ModelFileError as error:
                message = "The voice was made with another model."
                raise InputError(message, param="voice") from error

        self._start_codec(row, self._primed.get(id(clone), make).state)

    def _start_codec(self, row: int, state: DecoderState | None) -> None:
        if self._captured is not None:
            self._captured.windows.begin(row, state)
        elif state is None:
            self._codec.reset(row)
        else:
            self._codec.copy_row(row, state)


def _pieces(length: int, longest: int) -> list[int]:
    """Where they begin: each as long as can be, so the last may repeat some of the one before."""
    return [*range(0, length - longest, longest), max(0, length - longest)]


def _nothing() -> None:
    """To drop what nobody holds."""
