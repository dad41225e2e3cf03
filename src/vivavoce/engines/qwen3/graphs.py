"""The frame, and the reading of a prompt, as captures on the rows' own buffers.

Whether anything is captured, and what is compiled, the place and the options decide.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vivavoce.engines.qwen3.frame import FrameIds, frame
from vivavoce.engines.qwen3.fused import FusedTalker
from vivavoce.engines.qwen3.options import CompileMode, Qwen3Options, compile_mode
from vivavoce.engines.qwen3.rows import RowState
from vivavoce.engines.qwen3.talker import Talker
from vivavoce.runtime.graphs.api import (
    BATCH_BUCKETS,
    LENGTH_BUCKETS,
    GraphApi,
    StaticTensors,
    Work,
    bucket_over,
    buckets_to,
    tensors_in,
)
from vivavoce.runtime.graphs.captures import Captures, Job
from vivavoce.runtime.graphs.transfer import PendingCopy
from vivavoce.runtime.nn.kv import KVBuffer, Placement

if TYPE_CHECKING:
    from vivavoce.engines.qwen3.device import Place

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Capturing:
    """What captures, and the mode of torch.compile for what is compiled (None: nothing).

    ``compiled`` says in words how the codec is compiled, and why not as was asked for.
    """

    api: GraphApi
    mode: str | None = None
    compiled: str = "off"


def capturing_on(place: Place, options: Qwen3Options) -> Capturing | None:
    """What captures on a place; None where nothing does, or nothing should.

    On CUDA it says where compiled code is kept: that of kernels, too, which need no capture.
    """
    if place.device.type != "cuda":
        return None
    from vivavoce.runtime.graphs.compiled import cache_folder, cache_on_disk, inductor_mode

    cache_on_disk(cache_folder())
    if options.cuda_graphs is False:
        _say_uncompiled(options)
        return None
    from vivavoce.runtime.graphs.cuda import CudaGraphs

    mode, told = _suited_mode(place, options)
    return Capturing(CudaGraphs(place.device), inductor_mode(mode), told)


def _suited_mode(place: Place, options: Qwen3Options) -> tuple[CompileMode, str]:
    """The mode on this GPU, and how it came about: max-autotune takes minutes, for nothing where
    PyTorch has nothing to choose from.
    """
    from vivavoce.runtime.graphs.compiled import TEMPLATE_PROCESSORS, has_templates, processors

    mode = compile_mode(options)
    if mode != "max-autotune" or has_templates(place.device):
        return mode, mode
    why = (
        f"max-autotune has templates from {TEMPLATE_PROCESSORS} multiprocessors on, this GPU has "
        f"{processors(place.device)}"
    )
    level = logging.INFO if options.torch_compile_mode is None else logging.WARNING
    log.log(level, "The codec is compiled in the mode default: %s.", why)
    return "default", f"default ({why})"


def _say_uncompiled(options: Qwen3Options) -> None:
    """A warning where somebody asked for a mode, and no more than a word on the usual one."""
    mode = compile_mode(options)
    if mode != "off":
        log.log(
            logging.INFO if options.torch_compile_mode is None else logging.WARNING,
            "torch_compile_mode=%s has no effect: the codec is not compiled without cuda_graphs.",
            mode,
        )


class FrameKey(NamedTuple):
    """What a captured frame was made for; ``most`` and ``step`` as ``frame`` takes them."""

    rows: int
    most: int
    step: bool = True


def statics_of(talker: Talker, state: RowState) -> StaticTensors:
    """What frames and prefills may use."""
    return StaticTensors().module(talker).buffers(tensors_in(state))


class FrameGraphs:
    """``frame`` for the first rows of a state, by bucket of rows.

    A frame without the talker's step is there for the fewest rows, where one begins alone; others
    take the step along. Where a row's options need sorting by the modules, all rows run together:
    that is captured once only.
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
        rows, self._positions = state.text.shape
        self._talker, self._ids, self._shortlist = talker, ids, shortlist
        self._batches = buckets_to(rows, BATCH_BUCKETS)
        self._views = {count: state.rows(0, count) for count in self._batches}
        self._fused = fused
        self._by_modules: set[FrameKey] = set()
        statics = statics_of(talker, state)
        if fused is not None:
            statics.constants(tensors_in(fused)).buffers(tensors_in(fused.scratch))
        self.captures: Captures[FrameKey] = Captures("frame", api, statics, api.pool(urgent=True))

    def warm(self) -> None:
        """Capture every bucket; all rows must be idle. What fails with kernels may do without."""
        keys = [FrameKey(rows, self._shortlist) for rows in self._batches]
        keys.append(FrameKey(self._batches[0], self._shortlist, step=False))
        if self._fused is not None:
            self._capture(keys)
            keys = [key for key in keys if not self.captures.holds(key)]
            self._by_modules.update(keys)
        if self._fused is None or keys:
            self._capture([*keys, FrameKey(self._batches[-1], 0)])

    def _capture(self, keys: Sequence[FrameKey]) -> None:
        jobs = [Job(key, 2 * key.rows + key.step, self._work(key)) for key in keys]
        self.captures.warm(jobs)

    def key(self, width: int, *, step: bool = True, most: int = 0) -> FrameKey:
        """The bucket for the first ``width`` rows.

        Kernels need no sorting, so that no row takes all others along.
        """
        rows = bucket_over(width, self._batches)
        assert rows is not None, "more than the state has"
        key = FrameKey(rows, self._shortlist, step or rows > self._batches[0])
        if most or (self._fused is not None and key not in self._by_modules):
            return key
        return FrameKey(self._batches[-1], 0)

    def run(self, width: int, *, step: bool = True, most: int = 0) -> None:
        """One frame, as ``frame.frame``; rows behind ``width`` must be idle."""
        key = self.key(width, step=step, most=most)
        self.captures.run(key, self._work(key))

    def _work(self, key: FrameKey) -> Work:
        view = self._views[key.rows]
        draw = None if key in self._by_modules or not key.most else self._fused
        return lambda: frame(
            self._talker,
            view,
            self._ids,
            self._positions,
            draw=draw,
            step=key.step,
            most=key.most,
        )


@dataclass(frozen=True, slots=True)
class CopiedCodes:
    """A frame of ``width`` rows that a copy brings."""

    copy: PendingCopy
    width: int

    def take(self) -> NDArray[np.int64]:
        """Wait for it: [width, 17], the codes of each row and then its status."""
        values = self.copy.take()
        codes, status = values[: -self.width].view(self.width, -1), values[-self.width :, None]
        return torch.cat((codes, status), 1).numpy()

    def release(self) -> None:
        """Its slot is free again."""
        self.copy.release()


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


@dataclass(frozen=True, slots=True)
class OneRow(KVBuffer):
    """A row of a buffer of B, of which the device knows the number: int64 [1].

    What is written goes straight into the buffer; what is read is copied, a layer at a time.
    """

    row: Tensor

    def write(self, layer: int, at: Placement, keys: Tensor, values: Tensor) -> None:
        """Store [1, kv_heads, T, head_dim] at the placement's positions [1, T]."""
        positions = at.positions
        assert isinstance(positions, Tensor)
        for buffer, new in ((self.keys[layer], keys), (self.values[layer], values)):
            buffer[self.row[:, None], :, positions] = new.transpose(1, 2)

    def read(self, layer: int, span: int) -> tuple[Tensor, Tensor]:
        """The row's first ``span`` positions of a layer: two [1, kv_heads, span, head_dim]."""
        keys, values = self.keys[layer, :, :, :span], self.values[layer, :, :, :span]
        return keys.index_select(0, self.row), values.index_select(0, self.row)


class PrefillGraphs:
    """A prompt into any row, by bucket of its length."""

    def __init__(self, api: GraphApi, talker: Talker, state: RowState, pool: object = None) -> None:
        self._talker, self._state, self._positions = talker, state, state.text.shape[1]
        self._lengths = tuple(each for each in LENGTH_BUCKETS if each <= self._positions)
        self._buffers = PromptBuffers.build(self._lengths[-1], state.hidden)
        statics = statics_of(talker, state).buffers(tensors_in(self._buffers))
        self.captures: Captures[int] = Captures("prefill", api, statics, pool)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Those that are captured: one may stand anywhere in a row."""
        return self._lengths

    def warm(self) -> None:
        """Capture every length; all rows must be idle."""
        self.captures.warm([Job(each, each, self._work(each)) for each in self._lengths])

    def bucket(self, length: int, start: int) -> int | None:
        """That of a prompt behind ``start`` positions; None where there is none."""
        padded = bucket_over(length, self._lengths)
        return None if padded is None or start + padded > self._positions else padded

    def run(self, row: int, prompt: Tensor, start: int = 0) -> Tensor | None:
        """As ``Rows.prefill``: the last hidden state [H], overwritten by the next run.

        None where the prompt is longer than any bucket, or what pads it has no room.
        """
        length = prompt.shape[0]
        bucket = self.bucket(length, start)
        if bucket is None:
            return None
        held = self._buffers
        held.prompt[:length].copy_(prompt)
        held.prompt[length:bucket].zero_()
        for tensor, number in ((held.row, row), (held.start, start), (held.length, length)):
            tensor.fill_(number)
        self.captures.run(bucket, self._work(bucket))
        return held.hidden

    def _work(self, bucket: int) -> Work:
        return lambda: _prefill(self._talker, self._state, self._buffers, bucket)


@torch.no_grad()
def _prefill(talker: Talker, state: RowState, held: PromptBuffers, length: int) -> None:
    """A prompt of ``length`` positions through the talker, behind what its row has."""
    at = held.start + torch.arange(length, device=held.start.device)
    place = Placement.each(state.rope, at[None], state.text.shape[1])
    kv = OneRow(state.kv.keys, state.kv.values, held.row)
    out = talker.model(held.prompt[None, :length], place, kv)[0]
    held.hidden.copy_(out.index_select(0, held.length - 1)[0])
