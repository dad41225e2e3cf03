"""The fixed buffers of all rows of a batch, and what the host writes into them between frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from vivavoce.engines.qwen3.config import TalkerConfig
from vivavoce.engines.qwen3.talker import PredictorBuffers, Talker, decoder_shape
from vivavoce.errors import InputError
from vivavoce.runtime.graphs.transfer import to_device
from vivavoce.runtime.nn.kv import KVBuffer
from vivavoce.runtime.nn.rope import RopeTable
from vivavoce.runtime.nn.sampling import SamplerOptions, SamplerRows, split_seed

DEFAULT_SAMPLER = SamplerOptions()


@dataclass(frozen=True, slots=True)
class RowOptions:
    """How one row is spoken. ``max_frames`` bounds its length (80 ms each)."""

    talker: SamplerOptions = DEFAULT_SAMPLER
    codes: SamplerOptions = DEFAULT_SAMPLER
    repetition_penalty: float = 1.05
    seed: int = 0
    max_frames: int = 8191

    def __post_init__(self) -> None:
        if not self.repetition_penalty > 0:
            raise InputError("The repetition penalty must be over 0.", param="repetition_penalty")
        if self.max_frames < 1:
            raise InputError("max_frames must be 1 or more.", param="max_frames")


@dataclass(frozen=True, slots=True)
class RowState:
    """Everything ``frame`` reads and writes. B rows; S positions; H hidden; V talker vocabulary.

    A row is ``active`` from its admission to its end, and ``primed`` before its first frame, while
    ``hidden`` [B, H] is its prompt's. ``pending`` [B, H] is the sum of the last frame's embeddings,
    to which the next text is added. ``text`` [B, S] holds the token ids after the prompt, of which
    ``written`` are there and ``cursor`` are used; ``closed`` says that no more come, ``holding``
    that the end is banned until all are used. ``positions`` [B] is where the next token goes; idle
    rows stand on the last position. ``codes`` [B, 16] and ``status`` [B] are the frame's result.
    """

    kv: KVBuffer
    rope: RopeTable
    predictor: PredictorBuffers
    talker_sampler: SamplerRows
    code_sampler: SamplerRows
    penalty: Tensor
    seeds: Tensor
    hidden: Tensor
    pending: Tensor
    seen: Tensor
    positions: Tensor
    frames: Tensor
    limit: Tensor
    text: Tensor
    written: Tensor
    cursor: Tensor
    active: Tensor
    primed: Tensor
    closed: Tensor
    holding: Tensor
    codes: Tensor
    status: Tensor

    @classmethod
    def build(cls, config: TalkerConfig, rows: int, positions: int, like: Tensor) -> RowState:
        """Idle rows; ``like`` gives the weights' dtype and device."""
        hidden, device = config.hidden_size, like.device

        def numbers(*size: int) -> Tensor:
            return torch.zeros(size, dtype=torch.int64, device=device)

        def flags(*size: int) -> Tensor:
            return torch.zeros(size, dtype=torch.bool, device=device)

        return cls(
            kv=KVBuffer.zeros(decoder_shape(config).kv_shape(rows, positions), like),
            rope=RopeTable.build(positions, config.head_dim, config.rope_theta, like),
            predictor=PredictorBuffers.build(config.code_predictor, rows, like),
            talker_sampler=SamplerRows.build(rows, device),
            code_sampler=SamplerRows.build(rows, device),
            penalty=torch.ones(rows, device=device),
            seeds=numbers(rows, 2),
            hidden=like.new_zeros(rows, hidden),
            pending=like.new_zeros(rows, hidden),
            seen=flags(rows, config.vocab_size),
            positions=numbers(rows) + positions - 1,
            frames=numbers(rows),
            limit=numbers(rows),
            text=numbers(rows, positions),
            written=numbers(rows),
            cursor=numbers(rows),
            active=flags(rows),
            primed=flags(rows),
            closed=flags(rows),
            holding=flags(rows),
            codes=numbers(rows, config.num_code_groups),
            status=numbers(rows),
        )

    def rows(self, start: int, stop: int) -> RowState:
        """A view of some rows, sharing memory: a smaller batch over the same buffers."""
        parts: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                parts[field.name] = value[start:stop]
            else:
                parts[field.name] = value if field.name == "rope" else value.rows(start, stop)
        return RowState(**parts)


class Undo:
    """What a frame moves on, as it was before it, for a frame that broke off in the middle."""

    def __init__(self, state: RowState) -> None:
        self._moved = [
            *(state.positions, state.cursor, state.frames, state.active, state.primed),
            *(state.hidden, state.pending, state.seen),
        ]
        self._before = [torch.empty_like(each) for each in self._moved]

    def note(self) -> None:
        """A frame is about to begin. Takes no memory, nor does ``restore``."""
        for before, now in zip(self._before, self._moved, strict=True):
            before.copy_(now)

    def restore(self) -> None:
        """As if it had not begun; what else it wrote, the next one writes anew."""
        for before, now in zip(self._before, self._moved, strict=True):
            now.copy_(before)


class Rows:
    """The host's side of a ``RowState``: rows join, get text, and leave, between frames."""

    def __init__(self, config: TalkerConfig, rows: int, positions: int, like: Tensor) -> None:
        self.state = RowState.build(config, rows, positions, like)
        self._positions = positions
        self._written = [0] * rows

    def first(self, rows: int) -> RowState:
        """The first rows as a batch of their own, over the same memory."""
        return self.state.rows(0, rows)

    @torch.no_grad()
    def prefill(self, talker: Talker, row: int, prompt: Tensor, start: int = 0) -> Tensor:
        """Run a prompt [N, H] into a row's buffers; the hidden state [H] to admit it with.

        It goes behind ``start`` positions that ``restore_prefix`` put there. Raises InputError for
        a prompt that leaves no room to speak.
        """
        length = prompt.shape[0]
        self.check_room(start + length)
        kv = self.state.kv.rows(row, row + 1)
        lengths = to_device(torch.tensor([length]), prompt.device)
        return talker.prefill(prompt[None], lengths, kv, self.state.rope, start)[0]

    def keep_prefix(self, row: int, length: int) -> KVBuffer:
        """A copy of a row's first positions: what a voice's prompts have in common."""
        kv = self.state.kv.rows(row, row + 1)
        return KVBuffer(kv.keys[..., :length, :].clone(), kv.values[..., :length, :].clone())

    def restore_prefix(self, row: int, kept: KVBuffer) -> int:
        """Put kept positions into an idle row; how many they are."""
        kv, length = self.state.kv.rows(row, row + 1), kept.keys.shape[3]
        kv.keys[..., :length, :].copy_(kept.keys)
        kv.values[..., :length, :].copy_(kept.values)
        return length

    def admit(
        self,
        row: int,
        hidden: Tensor,
        length: int,
        text: Sequence[int],
        options: RowOptions,
        *,
        text_open: bool = False,
    ) -> None:
        """Start an idle row whose ``length`` prompt positions are in its buffers.

        ``hidden`` [H] is the last of them; ``text`` the token ids to be said after the prompt,
        with the end of text unless ``text_open``.
        """
        self.check_room(length)
        state = self.state
        state.hidden[row].copy_(hidden)
        state.positions[row].fill_(length)
        state.limit[row].fill_(min(options.max_frames, self._positions - length))
        state.penalty[row].fill_(options.repetition_penalty)
        state.talker_sampler.set(row, options.talker)
        state.code_sampler.set(row, options.codes)
        for half, value in enumerate(split_seed(options.seed)):
            state.seeds[row, half].fill_(value)
        for cleared in (state.seen, state.frames, state.written, state.cursor):
            cleared[row].zero_()
        self._written[row] = 0
        state.primed[row].fill_(True)
        state.closed[row].fill_(not text_open)
        state.holding[row].fill_(text_open)
        self.extend(row, text)
        state.active[row].fill_(True)

    def extend(self, row: int, text: Sequence[int]) -> None:
        """Append text token ids. Raises InputError for more than a row can ever say."""
        self._written[row] = self._put(row, text)

    def finish(self, row: int, end_id: int) -> None:
        """Close the text of a row that was admitted open; ``end_id`` is the end of text."""
        stop = self._put(row, (end_id,))
        self.state.closed[row].fill_(True)
        self._written[row] = stop

    def _put(self, row: int, text: Sequence[int]) -> int:
        """Write behind a row's text; where it ends then. To be done again, if it fails."""
        start, stop = self._written[row], self._written[row] + len(text)
        if stop > self._positions:
            raise InputError(
                f"The text has {stop} tokens; at most {self._positions} can be said at once.",
                param="input",
            )
        if text:
            state = self.state
            state.text[row, start:stop].copy_(to_device(torch.tensor(text), state.text.device))
            state.written[row].fill_(stop)
        return stop

    def release(self, row: int) -> None:
        """Make a row idle, whatever it is doing. Takes no memory, so that it cannot lack it."""
        self.state.active[row].fill_(False)
        self.state.positions[row].fill_(self._positions - 1)

    def scrub(self, row: int) -> None:
        """Clear a failed row's buffers: behind a mask, too, what is not finite would spread."""
        kv = self.state.kv.rows(row, row + 1)
        predictor = self.state.predictor.kv.rows(row, row + 1)
        for buffer in (kv.keys, kv.values, predictor.keys, predictor.values):
            buffer.zero_()
        self.state.hidden[row].zero_()
        self.state.pending[row].zero_()

    def check_room(self, length: int) -> None:
        """Raise InputError for a prompt of ``length`` positions that leaves no room to speak."""
        if length >= self._positions:
            raise InputError(
                f"The prompt has {length} positions; a row has {self._positions}.", param="input"
            )
