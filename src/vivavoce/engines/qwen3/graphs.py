"""The frame, and the reading of a prompt, as captures on the rows' own buffers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from vivavoce.engines.capture.api import GraphApi, Work
from vivavoce.engines.capture.buckets import (
    BATCH_BUCKETS,
    LENGTH_BUCKETS,
    SPAN_BUCKETS,
    bucket_over,
    buckets_to,
)
from vivavoce.engines.capture.captures import Captures, Job
from vivavoce.engines.capture.statics import Statics, tensors_in
from vivavoce.engines.layers.kv import KVBuffer, Placement
from vivavoce.engines.qwen3.frame import FrameIds, frame
from vivavoce.engines.qwen3.fused import FusedTalker
from vivavoce.engines.qwen3.rows import RowState
from vivavoce.engines.qwen3.talker import Talker

NO_STEP = 0
"""The span of a frame in which every live row is in its first: no talker step."""


class FrameKey(NamedTuple):
    """What a captured frame was made for; ``most`` as ``frame`` takes it."""

    rows: int
    span: int
    most: int


class PromptKey(NamedTuple):
    """What a captured prefill was made for: positions that are read, and that are looked at."""

    length: int
    span: int


def statics_of(talker: Talker, state: RowState) -> Statics:
    """What frames and prefills may use."""
    return Statics().module(talker).buffers(tensors_in(state))


class FrameGraphs:
    """``frame`` for the first rows of a state, by bucket of rows and of positions.

    Where a row's options need sorting by the modules, all rows run together: that is captured once
    only.
    """

    def __init__(
        self,
        api: GraphApi,
        talker: Talker,
        state: RowState,
        ids: FrameIds,
        shortlist: int,
        fused: FusedTalker | None = None,
    ) -> None:
        """``shortlist`` is ``most`` where nothing needs to be sorted; ``fused``: kernels."""
        rows, positions = state.text.shape
        self._talker, self._ids, self._shortlist = talker, ids, shortlist
        self._batches = buckets_to(rows, BATCH_BUCKETS)
        self._spans = buckets_to(positions, SPAN_BUCKETS)
        self._views = {count: state.rows(0, count) for count in self._batches}
        self._fused = fused
        self._by_modules: set[FrameKey] = set()
        statics = statics_of(talker, state)
        if fused is not None:
            statics.constants(tensors_in(fused)).buffers(tensors_in(fused.scratch))
            if fused.whole is not None:
                statics.buffers(tensors_in(fused.whole.barrier))
        self.captures: Captures[FrameKey] = Captures("frame", api, statics, api.pool(urgent=True))

    def warm(self) -> None:
        """Capture every bucket; all rows must be idle. What fails with kernels may do without."""
        keys = [
            FrameKey(rows, span, self._shortlist)
            for rows in self._batches
            for span in (NO_STEP, *self._spans)
        ]
        if self._fused is not None:
            self._capture(keys)
            keys = [key for key in keys if not self.captures.holds(key)]
            self._by_modules.update(keys)
        if self._fused is None or keys:
            sorting = [FrameKey(self._batches[-1], span, 0) for span in (NO_STEP, *self._spans)]
            self._capture(keys + sorting)

    def _capture(self, keys: Sequence[FrameKey]) -> None:
        jobs = [Job(key, key.rows * (key.span or 1), self._work(key)) for key in keys]
        self.captures.warm(jobs)

    def key(self, width: int, span: int, *, step: bool = True, most: int = 0) -> FrameKey:
        """The bucket for the first ``width`` rows at positions below ``span``.

        Kernels need no sorting, so that no row takes all others along.
        """
        rows, reach = bucket_over(width, self._batches), bucket_over(span, self._spans)
        assert rows is not None and reach is not None, "more than the state has"
        key = FrameKey(rows, reach if step else NO_STEP, self._shortlist)
        if most or (self._fused is not None and key not in self._by_modules):
            return key
        return FrameKey(self._batches[-1], key.span, 0)

    def run(self, width: int, span: int, *, step: bool = True, most: int = 0) -> None:
        """One frame, as ``frame.frame``; rows behind ``width`` must be idle."""
        key = self.key(width, span, step=step, most=most)
        self.captures.run(key, self._work(key))

    def _work(self, key: FrameKey) -> Work:
        view, how = self._views[key.rows], {"step": key.span != NO_STEP, "most": key.most}
        draw = None if key in self._by_modules or not key.most else self._fused
        return lambda: frame(
            self._talker,
            view,
            self._ids,
            key.span,
            draw=draw,
            **how,  # type: ignore[arg-type]
        )


@dataclass(frozen=True, slots=True)
class PromptBuffers:
    """What a prefill reads and gives: ``prompt`` [N, H] and ``hidden`` [H]; the others [1]."""

    prompt: Tensor
    row: Tensor
    start: Tensor
    length: Tensor
    hidden: Tensor

    @classmethod
    def build(cls, longest: int, like: Tensor) -> PromptBuffers:
        """``like`` [..., H] gives the width, the dtype and the device."""
        width = like.shape[-1]
        row, start, length = like.new_zeros(3, 1, dtype=torch.int64).unbind()
        length.fill_(1)  # what is captured looks at the last position
        return cls(like.new_zeros(longest, width), row, start, length, like.new_zeros(width))


class PrefillGraphs:
    """A prompt into any row, by bucket of its length."""

    def __init__(self, api: GraphApi, talker: Talker, state: RowState, pool: object = None) -> None:
        positions = state.text.shape[1]
        self._talker, self._state = talker, state
        self._lengths = tuple(each for each in LENGTH_BUCKETS if each <= positions)
        self._spans = buckets_to(positions, SPAN_BUCKETS)
        self._buffers = PromptBuffers.build(self._lengths[-1], state.hidden)
        statics = statics_of(talker, state).buffers(tensors_in(self._buffers))
        self.captures: Captures[PromptKey] = Captures("prefill", api, statics, pool)

    def warm(self) -> None:
        """Capture prompts from a row's beginning and behind a kept one; all rows must be idle."""
        keys = [PromptKey(length, span) for length in self._lengths for span in self._over(length)]
        self.captures.warm([Job(key, key.length * key.span, self._work(key)) for key in keys])

    def _over(self, length: int) -> tuple[int, ...]:
        """The smallest span that holds so many, and the next, for what is kept before them.

        The longest are pieces of longer prompts, and stand anywhere.
        """
        first = sum(span < length for span in self._spans)
        return self._spans[first : None if length == self._lengths[-1] else first + 2]

    def key(self, length: int, start: int) -> PromptKey | None:
        """The bucket of a prompt behind ``start`` positions; None where there is none."""
        padded = bucket_over(length, self._lengths)
        span = None if padded is None else bucket_over(start + padded, self._spans)
        return None if padded is None or span is None else PromptKey(padded, span)

    def run(self, row: int, prompt: Tensor, start: int = 0) -> Tensor | None:
        """As ``Rows.prefill``: the last hidden state [H], overwritten by the next run.

        None where the prompt is longer than any bucket.
        """
        length = prompt.shape[0]
        key = self.key(length, start)
        if key is None:
            return None
        held = self._buffers
        held.prompt[:length].copy_(prompt)
        held.prompt[length : key.length].zero_()
        for tensor, number in ((held.row, row), (held.start, start), (held.length, length)):
            tensor.fill_(number)
        self.captures.run(key, self._work(key))
        return held.hidden

    def _work(self, key: PromptKey) -> Work:
        return lambda: _prefill(self._talker, self._state, self._buffers, key)


@torch.no_grad()
def _prefill(talker: Talker, state: RowState, held: PromptBuffers, key: PromptKey) -> None:
    """The row's first positions out, through the talker, and back."""
    keys, values = state.kv.keys[:, :, :, : key.span], state.kv.values[:, :, :, : key.span]
    kv = KVBuffer(keys.index_select(1, held.row), values.index_select(1, held.row))
    at = held.start + torch.arange(key.length, device=held.start.device)
    place = Placement.each(state.rope, at[None], key.span)
    out = talker.model(held.prompt[None, : key.length], place, kv)[0]
    held.hidden.copy_(out.index_select(0, held.length - 1)[0])
    keys.index_copy_(1, held.row, kv.keys)
    values.index_copy_(1, held.row, kv.values)
