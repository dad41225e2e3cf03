"""The kernels of a frame that read no matrix: attention, the sampler, and a frame's two ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vivavoce.bench.engine.clock import median_ms
from vivavoce.bench.engine.setting import Told
from vivavoce.engines.qwen3.config import Qwen3Config, TalkerConfig
from vivavoce.engines.qwen3.fused import SPLITS
from vivavoce.engines.qwen3.rows import RowState
from vivavoce.engines.qwen3.talker import decoder_shape
from vivavoce.runtime.kernels import frame_ends as plain
from vivavoce.runtime.kernels.attention import Cache, Heads, Scratch
from vivavoce.runtime.kernels.dispatch import Kernels, Path, chosen
from vivavoce.runtime.kernels.linear import Norm
from vivavoce.runtime.kernels.sampler import Noise
from vivavoce.runtime.nn.decoder import DecoderShape
from vivavoce.runtime.nn.rope import RopeTable
from vivavoce.runtime.nn.sampling import SamplerOptions, SamplerRows
from vivavoce.runtime.nn.weights import Weight

SHORT, LONG = 256, 1024
"""Positions that a row of the talker has; the long ones are measured beside, not summed."""

AT_ONCE = {"cuda": 128, "cpu": 4}
"""Launches in one captured graph: one by itself would be timed with the graph's own beginning."""


@dataclass(frozen=True, slots=True)
class Case:
    """A kernel to be launched ``launches`` times a frame, reading ``size_bytes`` each time."""

    name: str
    launches: int
    size_bytes: int
    run: Callable[[Kernels], Any]


@torch.inference_mode()
def other_kernels(
    config: Qwen3Config, kernels: Kernels, rows: int, device: torch.device, dtype: torch.dtype
) -> list[Told]:
    """One line of the report for each."""
    like = torch.zeros(rows, 1, device=device, dtype=dtype)
    plain = chosen(device, dtype, Path.TORCH)
    paths = {"": kernels} if kernels.path is Path.TORCH else {"": kernels, "plain_": plain}
    told = []
    for case in _cases(config.talker, like):
        line: Told = {"name": case.name, "rows": rows, "launches": case.launches}
        line["bytes"] = case.size_bytes
        for prefix, each in paths.items():
            works = [lambda k=each, run=case.run: run(k)] * AT_ONCE[device.type]
            ms = median_ms(works, device, 3)
            line[f"{prefix}ms"] = round(ms, 5)
            line[f"{prefix}gb_s"] = round(case.size_bytes / ms / 1e6, 3)
        told.append(line)
    return told


def _cases(talker: TalkerConfig, like: Tensor) -> Iterator[Case]:
    big, small = decoder_shape(talker), decoder_shape(talker.code_predictor)
    groups = talker.code_predictor.num_code_groups
    yield _attention("talker attention", big, big.layers, SHORT, like, SPLITS)
    yield _attention(f"talker attention over {LONG}", big, 0, LONG, like, SPLITS)
    passes = small.layers * (groups - 1)
    yield _attention("predictor attention", small, passes, groups, like)
    yield _sampler("code 0", 1, talker.vocab_size, 0, like)
    yield _sampler("another code", groups - 1, talker.code_predictor.vocab_size, small.hidden, like)
    yield from _ends(talker, like)


def _ends(talker: TalkerConfig, like: Tensor) -> Iterator[Case]:
    """Of rows that stand where nothing of theirs moves on."""
    rows, size, predictor = len(like), talker.hidden_size, talker.code_predictor
    state = RowState.build(talker, rows, groups := talker.num_code_groups, like)
    table = Weight(like.new_ones(SHORT, talker.text_hidden_size))
    yield Case(
        "next text", 1, 2 * rows * table.data[0].nbytes, lambda k: k.next_text(state, table, 0)
    )
    x, norm = torch.ones_like(state.hidden), Norm(like.new_ones(size), 1e-6)
    pair = torch.stack((x, x), 1)
    yield Case("settle", 1, 3 * x.nbytes, lambda k: k.settle(state, x, norm, pair))
    turn = plain.settle(state, None)
    codes = torch.zeros(rows, groups, dtype=torch.int64, device=like.device)
    first = like.new_ones(talker.vocab_size, size)
    others = like.new_ones(groups - 1, predictor.vocab_size, size)
    read = rows * (groups + 1) * first[0].nbytes

    def finish(kernels: Kernels) -> None:
        kernels.finish(state, turn, codes, talker.codec_eos_token_id, first, others)

    yield Case("finish", 1, read, finish)


def _attention(
    name: str, shape: DecoderShape, launches: int, span: int, like: Tensor, splits: int = 1
) -> Case:
    norm, rows = Norm(like.new_ones(shape.head_dim), 1e-6), len(like)
    heads = Heads(shape.heads, shape.kv_heads, shape.head_dim, norm, norm)
    qkv = torch.randn(rows, 1, heads.width, device=like.device).to(like.dtype)
    keys = like.new_zeros(rows, shape.kv_heads, span, shape.head_dim)
    positions = torch.full((rows,), span - 1, device=like.device)
    parts = Scratch.build(heads, rows, splits, like.device) if splits > 1 else None
    cache = Cache(keys, torch.randn_like(keys), positions, scratch=parts)
    rope = RopeTable.build(span, shape.head_dim, 1e6, like)
    return Case(name, launches, 2 * keys.nbytes, lambda k: k.attend(qkv, heads, rope, cache))


def _sampler(name: str, launches: int, size: int, hidden: int, like: Tensor) -> Case:
    rows, device = len(like), like.device
    sampler = SamplerRows.build(rows, device)
    for row in range(rows):
        sampler.set(row, SamplerOptions())
    scores = torch.randn(rows, size, device=device).to(like.dtype)
    every = torch.arange(rows, device=device)
    noise = Noise(torch.stack((every, every), 1), every)
    table = like.new_ones(size, hidden) if hidden else None
    read = scores.nbytes + (2 * rows * hidden * like.element_size())

    def run(kernels: Kernels) -> Any:
        return kernels.sample(scores, sampler, noise, 1, None, table)

    return Case(name, launches, read, run)
