"""Scores of a row in every bucket of rows beside those it has alone.

Teacher-forced: the same past, the same inputs and the same codes everywhere, so that what differs
is the arithmetic of a bucket alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from vivavoce.bench.engine.setting import POSITIONS, Setting, Told
from vivavoce.engines.options import parse_options
from vivavoce.engines.qwen3.device import choose_place
from vivavoce.engines.qwen3.fused import FusedTalker
from vivavoce.engines.qwen3.model import Model
from vivavoce.engines.qwen3.options import Qwen3Options
from vivavoce.engines.qwen3.rows import RowState
from vivavoce.runtime.graphs.api import BATCH_BUCKETS, buckets_to
from vivavoce.runtime.kernels.dispatch import chosen

FRAMES = 8


@dataclass(slots=True)
class Agreement:
    """Of scores [N, V] with one row's [1, V]: the least cosine, and how many choose alike."""

    cosine: float = 1.0
    alike: list[float] = field(default_factory=list)

    def add(self, got: Tensor, wanted: Tensor) -> None:
        """One bucket's."""
        cosine = functional.cosine_similarity(got.double(), wanted.double(), dim=-1)
        self.cosine = min(self.cosine, float(cosine.nan_to_num(-1.0).min()))
        self.alike += (got.argmax(-1) == wanted.argmax(-1)).float().tolist()

    def told(self) -> Told:
        """For the report."""
        share = sum(self.alike) / max(1, len(self.alike))
        return {"least_cosine": round(self.cosine, 6), "top_1": round(share, 4)}


@torch.inference_mode()
def across_buckets(setting: Setting) -> Told:
    """In the device's own dtype, weights as they are."""
    options = parse_options(Qwen3Options, "qwen3", setting.options("none"))
    place = choose_place(options)
    model = Model.load(setting.folder, place)
    most = max(setting.rows)
    fused = FusedTalker.of(model.talker, chosen(place.device, place.dtype), most)
    like = model.talker.codec_head.weight
    state = RowState.build(model.config.talker, most, POSITIONS, like)
    talker, predictor = Agreement(), Agreement()
    for number in range(FRAMES):
        _prepare(state, number)
        for got, wanted in _talker(fused, state):
            talker.add(got, wanted)
        for got, wanted in _predictor(fused, state, number):
            predictor.add(got, wanted)
    return {"dtype": str(like.dtype), "talker": talker.told(), "code predictor": predictor.told()}


def _prepare(state: RowState, number: int) -> None:
    """Every row has the same past, place and input."""
    generator = torch.Generator(state.hidden.device).manual_seed(number)
    for buffer in (state.kv.keys, state.kv.values):
        one = buffer[:, :1].clone().normal_(generator=generator)
        buffer.copy_(one.expand_as(buffer))
    state.hidden.copy_(
        state.hidden[:1].clone().normal_(generator=generator).expand_as(state.hidden)
    )
    state.positions.fill_(POSITIONS * (number + 1) // (FRAMES + 1))
    state.active.fill_(True)


def _counts(state: RowState) -> tuple[int, ...]:
    return tuple(buckets_to(len(state.status), BATCH_BUCKETS))


def _talker(fused: FusedTalker, state: RowState) -> Iterator[tuple[Tensor, Tensor]]:
    wanted: Tensor | None = None
    for count in _counts(state):
        rows = state.rows(0, count)
        scores = fused.kernels.linear(fused.step(rows.hidden, rows), fused.head)
        wanted = scores if wanted is None else wanted
        yield scores, wanted


def _predictor(fused: FusedTalker, state: RowState, number: int) -> Iterator[tuple[Tensor, Tensor]]:
    alone = list(_forced(fused, state.rows(0, 1), number))
    for count in _counts(state):
        yield from zip(_forced(fused, state.rows(0, count), number), alone, strict=True)


def _forced(fused: FusedTalker, rows: RowState, number: int) -> Iterator[Tensor]:
    """Scores of codes 1 to 15 after given codes."""
    count, norm = len(rows.status), fused.predictor.norm
    embedded = fused.first_table[number].expand(count, -1)
    hidden = fused.prologue(rows, torch.stack((rows.hidden, embedded), 1))
    for group, (head, table) in enumerate(zip(fused.heads, fused.tables, strict=True), start=1):
        yield fused.kernels.linear(hidden, head, norm)
        if group < len(fused.heads):
            code = (number * 131 + group * 17) % len(table)
            hidden = fused.follow(table[code].expand(count, -1).contiguous(), rows, group)
