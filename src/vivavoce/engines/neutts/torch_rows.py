"""The rows of a loaded model on its device: prompts in slices, one token of all rows at a time.

The work of a step reads and writes ``RowState`` alone, never waits for the host, and takes no shape
from data, so that it can be captured as a graph. On a GPU every shape is one of a few, captured
before the first request; elsewhere shapes are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from vivavoce.engines.neutts.backbone import TokenSampling
from vivavoce.engines.neutts.torch_checkpoint import SpeechLm
from vivavoce.engines.neutts.torch_config import LmConfig
from vivavoce.runtime.graphs.api import GraphApi, StaticTensors, Work, tensors_in
from vivavoce.runtime.graphs.captures import Captures, Job
from vivavoce.runtime.graphs.transfer import to_device
from vivavoce.runtime.lru_cache import LRUCache
from vivavoce.runtime.nn.kv import KVBuffer, Placement, SelectedRow
from vivavoce.runtime.nn.rope import RopeTable
from vivavoce.runtime.nn.sampling import choose_ranked, split_seed

END = 0
FAULT = -1
"""Drawn by a row whose scores are not finite."""
IDLE = -2
"""Drawn by a row that is not active."""

ROW_BUCKETS = (1, 2, 4, 8, 16, 32, 64)
SLICE_BUCKETS = (16, 64, 128, 256, 512, 1024)
SPAN_STEP = 128
KEPT_TEMPLATES = 16
Shapes: TypeAlias = tuple[str, int, int]
"""What captured work does, for how many rows or tokens, and how many positions it looks at."""


@dataclass(frozen=True, slots=True)
class RowState:
    """Everything a step reads and writes. B rows; P = context + 1 positions; C choices.

    A row is ``active`` from the end of its prefill to its own. ``tokens`` [B] is what goes in
    next, ``positions`` [B] where; rows that are not active stand on the last position, which no
    row looks at. ``counts`` [B] codes are made of ``limits`` [B]. ``prompts`` [B, context] holds
    token ids. ``scores`` [B, C] and ``drawn`` [B] are a step's results.
    """

    kv: KVBuffer
    rope: RopeTable
    prompts: Tensor
    tokens: Tensor
    positions: Tensor
    counts: Tensor
    limits: Tensor
    active: Tensor
    seeds: Tensor
    greedy: Tensor
    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    min_tokens: Tensor
    scores: Tensor
    drawn: Tensor

    @classmethod
    def build(
        cls, config: LmConfig, rows: int, context: int, choices: int, like: Tensor
    ) -> RowState:
        """Idle rows; ``like`` gives the dtype and device of keys and values."""
        device, positions = like.device, context + 1

        def numbers(*size: int) -> Tensor:
            return torch.zeros(size, dtype=torch.int64, device=device)

        def reals(*size: int) -> Tensor:
            return torch.ones(size, dtype=torch.float32, device=device)

        return cls(
            kv=KVBuffer.zeros(config.shape.kv_shape(rows, positions), like),
            rope=RopeTable.build(
                positions, config.head_dim, config.rope_theta, like, config.rope_scaling
            ),
            prompts=numbers(rows, context),
            tokens=numbers(rows),
            positions=numbers(rows) + context,
            counts=numbers(rows),
            limits=numbers(rows),
            active=numbers(rows).bool(),
            seeds=numbers(rows, 2),
            greedy=numbers(rows).bool(),
            temperature=reals(rows),
            top_k=numbers(rows) + 1,
            top_p=reals(rows),
            min_p=reals(rows) * 0,
            min_tokens=numbers(rows),
            scores=reals(rows, choices),
            drawn=numbers(rows),
        )

    @property
    def idle_position(self) -> int:
        """Where rows stand that are not active."""
        return self.prompts.shape[1]

    def first(self, rows: int) -> RowState:
        """A view of the first rows, sharing memory: a smaller batch over the same buffers."""
        parts: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            parts[field.name] = value[:rows] if isinstance(value, Tensor) else value
        parts["kv"] = self.kv.rows(0, rows)
        return RowState(**parts)

    def write_prompt(self, row: int, ids: Sequence[int]) -> None:
        """Put a prompt on the device, without waiting for what runs there."""
        given = torch.tensor(ids, dtype=torch.int64)
        self.prompts[row, : len(ids)] = to_device(given, self.prompts.device)

    def start(self, row: int, length: int, sampling: TokenSampling, limit: int) -> None:
        """Make a row active whose first ``length - 1`` prompt positions are evaluated."""
        self.tokens[row] = self.prompts[row, length - 1]
        self.positions[row] = length - 1
        self.counts[row] = 0
        self.limits[row] = limit
        self.greedy[row] = sampling.greedy
        self.temperature[row] = 1.0 if sampling.greedy else sampling.temperature
        self.top_k[row] = sampling.top_k
        self.top_p[row] = sampling.top_p
        self.min_p[row] = sampling.min_p
        self.min_tokens[row] = sampling.min_tokens
        for half, value in enumerate(split_seed(sampling.seed)):
            self.seeds[row, half] = value
        self.active[row] = True

    def stop(self, row: int) -> None:
        """Make a row idle, whatever it is doing."""
        self.active[row] = False
        self.positions[row] = self.idle_position


@dataclass(frozen=True, slots=True)
class SliceCursor:
    """Which part of which row's prompt is next: int64 [1] each, set by the host."""

    row: Tensor
    start: Tensor
    stop: Tensor

    @classmethod
    def build(cls, device: torch.device) -> SliceCursor:
        """At an empty part of row 0."""
        return cls(*(torch.zeros(1, dtype=torch.int64, device=device) for _ in range(3)))

    def set(self, row: int, start: int, stop: int) -> None:
        """Point at prompt positions ``start`` to ``stop`` (not included)."""
        self.row.fill_(row)
        self.start.fill_(start)
        self.stop.fill_(stop)


@torch.no_grad()
def prefill(model: SpeechLm, state: RowState, cursor: SliceCursor, size: int, span: int) -> None:
    """Evaluate the cursor's part, at most ``size`` tokens, into its row's keys and values.

    ``span`` bounds the positions looked at: at least the cursor's ``stop``. What is over in
    ``size`` goes to the idle position.
    """
    steps = torch.arange(size, device=cursor.start.device) + cursor.start
    used = steps < cursor.stop
    ids = state.prompts.index_select(0, cursor.row)
    ids = ids.gather(1, steps.clamp(max=ids.shape[1] - 1)[None])
    positions = torch.where(used, steps, state.idle_position)[None]
    row = cursor.row[:, None]
    at = Placement.each(state.rope, positions, span, rows=row, added=False)
    model(ids, at, SelectedRow(state.kv, cursor.row))


@torch.no_grad()
def score(model: SpeechLm, state: RowState, span: int) -> None:
    """Put one token of every row in; its scores of what follows go to ``state.scores``."""
    at = Placement.each(state.rope, state.positions[:, None], span, added=False)
    hidden = model(state.tokens[:, None], at, state.kv)
    state.scores.copy_(model.scores(hidden[:, 0]))


def choose(scores: Tensor, state: RowState, *, wide: bool) -> Tensor:
    """Choices int64 [B] as ``choose_ranked`` makes them; END is banned before ``min_tokens``."""
    banned = (state.counts < state.min_tokens)[:, None]
    end = scores[:, :1].masked_fill(banned, -torch.inf)
    return choose_ranked(torch.cat((end, scores[:, 1:]), 1), state, wide=wide)


@torch.no_grad()
def draw(state: RowState, ids: Tensor, *, wide: bool) -> None:
    """Choose what follows and make the rows ready for it.

    ``ids`` [C] are the choices' token ids. ``state.drawn`` becomes the choice (0 END, c + 1 for
    code c), ``FAULT`` or ``IDLE``.
    """
    chosen = choose(state.scores, state, wide=wide)
    finite = state.scores.isfinite().all(-1)
    spoken = state.active & finite & (chosen != END)
    state.counts.add_(spoken)
    going = spoken & (state.counts < state.limits)
    told = torch.where(finite, chosen, FAULT)
    state.drawn.copy_(torch.where(state.active, told, IDLE))
    state.tokens.copy_(ids[chosen])
    state.positions.copy_(torch.where(going, state.positions + 1, state.idle_position))
    state.active.copy_(going)


@dataclass(frozen=True, slots=True)
class Buckets:
    """The shapes work is done in: rows, prompt tokens a slice, positions looked at. Rising."""

    rows: tuple[int, ...]
    slices: tuple[int, ...]
    spans: tuple[int, ...]

    @classmethod
    def of(cls, rows: int, slice_tokens: int, context: int) -> Buckets:
        """Powers of two up to ``rows``; a quarter, half and all of the ``context``."""
        parts = (-(-(context // part) // SPAN_STEP) * SPAN_STEP for part in (4, 2))
        spans = {min(context, part) for part in parts} | {context}
        return cls(
            (*(size for size in ROW_BUCKETS if size < rows), rows),
            (*(size for size in SLICE_BUCKETS if size < slice_tokens), slice_tokens),
            tuple(sorted(spans)),
        )


class Runner:
    """``ids`` [C] are the token ids of the model's choices. Row numbers are the caller's.

    ``graphs`` captures; None: nothing is. ``templates`` are keys and values of prompts' beginnings,
    by their token ids, so that a voice's is evaluated once.
    """

    def __init__(
        self,
        model: SpeechLm,
        ids: Tensor,
        *,
        rows: int,
        context: int,
        slice_tokens: int,
        graphs: GraphApi | None = None,
    ) -> None:
        like = model.norm.weight
        self.state = RowState.build(model.config, rows, context, ids.shape[0], like)
        self.buckets = Buckets.of(rows, slice_tokens, context)
        self.slice_tokens = slice_tokens
        self.templates: LRUCache[tuple[int, ...], KVBuffer] = LRUCache(KEPT_TEMPLATES)
        self.captures: Captures[Shapes] | None = None
        self._model, self._ids = model, ids
        self._cursor = SliceCursor.build(like.device)
        if graphs is not None:
            statics = StaticTensors().module(model).constants([ids])
            statics.buffers(tensors_in([self.state, self._cursor]))
            self.captures = Captures("NeuTTS", graphs, statics)
        self._parts = {size: self.state.first(size) for size in range(1, rows + 1)}

    @property
    def vocabulary_rows(self) -> int:
        """How many token ids the model reads."""
        return self._model.config.vocab_size

    def capture(self) -> int:
        """Capture every shape; all rows must be idle. How many were: others run as they are."""
        if self.captures is None:
            return 0
        buckets = self.buckets
        jobs = [Job(("draw", rows, 0), rows, self._draw(rows)) for rows in buckets.rows]
        for span in buckets.spans:
            for rows in buckets.rows:
                jobs.append(Job(("score", rows, span), rows * span, self._score(rows, span)))
            for size in buckets.slices:
                jobs.append(Job(("prefill", size, span), size * span, self._prefill(size, span)))
        self.captures.warm(jobs)
        return self.captures.counts.captured

    def restore(self, row: int, template: tuple[int, ...]) -> int:
        """Put a kept beginning into a row: how many positions it has, 0 when it is not kept."""
        kept = self.templates.find(template)
        if kept is None:
            return 0
        self.state.kv.beginning(row, len(template)).copy_from(kept)
        return len(template)

    def keep(self, row: int, template: tuple[int, ...]) -> None:
        """Keep what a row begins with."""
        self.templates.get(template, self.state.kv.beginning(row, len(template)).clone)

    def prefill(self, row: int, start: int, stop: int) -> None:
        """Evaluate a part of a row's prompt, at most ``slice_tokens``, behind what came before."""
        self._cursor.set(row, start, stop)
        size, span = self._fit(stop - start, "slices"), self._fit(stop, "spans")
        self._run(("prefill", size, span), self._prefill(size, span))

    def step(self, rows: int, span: int, *, wide: bool) -> Tensor:
        """One token of the first ``rows``: what they drew, int64, on the device until the next.

        ``span`` must be over every active row's position; ``wide`` as ``choose_ranked`` has it.
        """
        rows, span = self._fit(rows, "rows"), self._fit(span, "spans")
        self._run(("score", rows, span), self._score(rows, span))
        state = self._parts[rows]
        if wide:
            draw(state, self._ids, wide=True)
        else:
            self._run(("draw", rows, 0), self._draw(rows))
        return state.drawn

    def write_prompt(self, row: int, ids: Sequence[int]) -> None:
        """Put a prompt on the device."""
        self.state.write_prompt(row, ids)

    def start(self, row: int, length: int, sampling: TokenSampling, limit: int) -> None:
        """Let a row speak whose first ``length - 1`` prompt tokens are evaluated."""
        with torch.no_grad():
            self.state.start(row, length, sampling, limit)

    def stop(self, row: int) -> None:
        """Make a row idle."""
        self.state.stop(row)

    def scrub(self, row: int) -> None:
        """Clear what a failed row left: what is not finite would spread from behind the mask."""
        for half in (self.state.kv.keys, self.state.kv.values):
            half[:, row].zero_()
        self.templates.clear()

    def _fit(self, value: int, kind: str) -> int:
        if self.captures is None:
            return value
        return next(size for size in getattr(self.buckets, kind) if size >= value)

    def _run(self, key: Shapes, work: Work) -> None:
        if self.captures is None:
            work()
        else:
            self.captures.run(key, work)

    def _score(self, rows: int, span: int) -> Work:
        return partial(score, self._model, self._parts[rows], span)

    def _draw(self, rows: int) -> Work:
        return partial(draw, self._parts[rows], self._ids, wide=False)

    def _prefill(self, size: int, span: int) -> Work:
        return partial(prefill, self._model, self.state, self._cursor, size, span)
