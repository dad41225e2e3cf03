"""Whether kernels compute what plain PyTorch does: asked on the device, before they are used.

Every number of rows that runs in a kernel of its own is tried, over pasts that are filled, at
several lengths, and the sampler at every kind of row. Nothing may be in use.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from vivavoce.engines.qwen3.agreement_of_ends import Agreed, cosine, ends, random
from vivavoce.engines.qwen3.config import CONTROL_CODES
from vivavoce.engines.qwen3.fused import SPLITS, FusedTalker
from vivavoce.engines.qwen3.rows import RowState
from vivavoce.engines.qwen3.talker import Talker
from vivavoce.errors import InputError
from vivavoce.runtime import cuda
from vivavoce.runtime.device_errors import NoDeviceMemory, twice
from vivavoce.runtime.graphs.api import BATCH_BUCKETS, LENGTH_BUCKETS, buckets_to
from vivavoce.runtime.graphs.captures import FAILURES
from vivavoce.runtime.kernels import sampler as plain
from vivavoce.runtime.kernels.dispatch import Kernels, Path
from vivavoce.runtime.kernels.sampler import Into, Noise, Rules
from vivavoce.runtime.kernels.tiles import variant
from vivavoce.runtime.nn.kv import KVBuffer, Placement
from vivavoce.runtime.nn.linear import forget_few, has_few, without_few
from vivavoce.runtime.nn.quantize import QuantizedLinear
from vivavoce.runtime.nn.sampling import SamplerOptions, SamplerRows

log = logging.getLogger(__name__)

LEAST_DRAWN = 0.9
"""Share of equal choices from equal scores and noise: a logarithm's last bit may decide one."""

UNUSABLE: tuple[type[Exception], ...] = (
    *(*FAILURES, NoDeviceMemory, InputError, ValueError, TypeError, KeyError),
    *(ImportError, AttributeError, AssertionError),
)
"""What making, compiling or launching kernels raises where they cannot be used."""

PRODUCTS = (1, 2, 3, 4, *LENGTH_BUCKETS)
"""Positions of prompts, and rows of frames where the modules make them: each kind of product."""

DRAWS = 16
SAMPLERS = (
    SamplerOptions(),
    SamplerOptions(greedy=True),
    SamplerOptions(temperature=0.6, top_k=0, top_p=0.8),
    SamplerOptions(temperature=1.3, top_k=5),
)


def fused_talker(talker: Talker, kernels: Kernels, state: RowState) -> FusedTalker | None:
    """Where the device gets kernels and they compute what the modules do; else None, and why is
    logged.

    Modules whose own products use kernels go back to plain PyTorch where those are wrong.
    """
    if kernels.path is not Path.TRITON:
        if state.hidden.device.type == "cuda":
            log.warning("No kernels on this GPU: %s. Frames run as the modules.", kernels.why)
        return None
    _check_products(talker, state)
    try:
        fused, worst = twice(lambda: _asked(talker, kernels, state), room_on(state))
    except UNUSABLE as error:
        log.warning("No kernels for frames: %s%s.", error, _slower(talker))
        return None
    if worst.share < 1:
        told = f"they do not agree with the modules: {worst.what}"
        log.warning("No kernels for frames: %s%s.", told, _slower(talker))
        return None
    return fused


def room_on(state: RowState) -> Callable[[], None]:
    """What makes room on the device of some rows, where it lacks memory while it is tried."""
    return lambda: cuda.empty_cache(state.hidden.device)


def _asked(talker: Talker, kernels: Kernels, state: RowState) -> tuple[FusedTalker, Agreed]:
    fused = FusedTalker.of(talker, kernels, len(state.status))
    return fused, least(fused, talker, state)


def _slower(talker: Talker) -> str:
    """What to do about quantized weights, of which each product then makes a whole matrix."""
    quantized = any(isinstance(each, QuantizedLinear) for each in talker.modules())
    return ". Without them quantized weights are slower than whole ones: QUANTIZE=none" * quantized


@torch.no_grad()
def least(fused: FusedTalker, talker: Talker, state: RowState) -> Agreed:
    """What agrees least between the kernels and the modules without any, on idle rows."""
    with without_few(talker):
        found = [*_frames(fused, talker, state), *_draws(fused, talker)]
    return min(found, key=lambda each: each.share)


def _check_products(talker: Talker, state: RowState) -> None:
    """Prompts in the modules, with the kernels that their products use and without."""
    if not has_few(talker):
        return
    try:
        found = twice(lambda: [*_prompts(talker, state)], room_on(state))
        worst = min(found, key=lambda each: each.share)
        told = "" if worst.share >= 1 else f"they do not agree with PyTorch: {worst.what}."
    except UNUSABLE as error:
        told = str(error)
    if told:
        forget_few(talker)
        log.warning("No kernels for products: %s", told)


@torch.no_grad()
def _prompts(talker: Talker, state: RowState) -> Iterator[Agreed]:
    like, kv = state.hidden, state.kv.rows(0, 1)
    for count in (each for each in PRODUCTS if variant(each, quantized=True)):
        if count > state.text.shape[1]:
            return
        x, at = (
            random(like.new_empty(1, count, like.shape[1])),
            Placement.alike(state.rope, 0, count),
        )
        with without_few(talker):
            wanted = talker.model(x, at, kv)
        yield cosine(f"a prompt of {count}", talker.model(x, at, kv), wanted)
        _clear(kv)


def _frames(fused: FusedTalker, talker: Talker, state: RowState) -> Iterator[Agreed]:
    for buffer in (state.kv, state.predictor.kv):
        random(buffer.keys, 1)
        random(buffer.values, 2)
    for count in _each_kind(buckets_to(len(state.status), BATCH_BUCKETS)):
        view = replace(state.rows(0, count), hidden=random(state.hidden[:count].clone(), 3))
        for reach in _reaches(state.text.shape[1]):
            yield from _steps(fused, talker, view, reach)
        yield from _codes(fused, talker, view)
        yield from ends(fused, talker, view)
    _clear(state.kv)
    _clear(state.predictor.kv)


def _each_kind(counts: tuple[int, ...] | list[int]) -> list[int]:
    """The first of those that run in the same kernels, by themselves and as two tokens each."""
    kinds: dict[tuple[object, ...], int] = {}
    for count in counts:
        sizes = [variant(n, quantized=q) for n in (count, 2 * count) for q in (False, True)]
        kinds.setdefault(tuple(sizes), count)
    return list(kinds.values())


def _reaches(positions: int) -> list[int]:
    """Pasts that are read as one part, as several and as all there are."""
    return sorted({min(each, positions) for each in (SPLITS, 32 * SPLITS, positions)})


def _steps(fused: FusedTalker, talker: Talker, view: RowState, reach: int) -> Iterator[Agreed]:
    """The talker's step with rows all over ``reach``: what it gives, and what it stores."""
    count = len(view.status)
    every = torch.arange(count, device=view.hidden.device)
    for first in (reach - 1, reach // 3):
        at = (first + every * (reach * 3 // 8 + 1)) % reach
        rows = replace(view, positions=at, active=torch.ones_like(view.active))
        x = random(view.hidden.clone())
        what = f"a step of {count} rows over {reach}"
        wanted = talker.step(x, at, view.kv, view.rope, reach)
        stored = [_taken(part, every, at) for part in (view.kv.keys, view.kv.values)]
        got = fused.step(x, rows)
        yield cosine(what, got, wanted)
        kept = [_taken(part, every, at) for part in (view.kv.keys, view.kv.values)]
        for after, before in zip(kept, stored, strict=True):
            yield cosine(f"what {what} stores", after, before)


def _taken(buffer: Tensor, rows: Tensor, at: Tensor) -> Tensor:
    """What all layers have at one position of each row [B, layers, heads * size]; zeros instead."""
    taken = buffer[:, rows, :, at].flatten(2)
    buffer[:, rows, :, at] = 0
    return taken


def _codes(fused: FusedTalker, talker: Talker, view: RowState) -> Iterator[Agreed]:
    """Scores of code 0, and the code predictor's passes, from the same codes."""
    predictor, count = talker.code_predictor, len(view.status)
    scores = fused.kernels.linear(view.hidden, fused.head)
    yield cosine(f"scores of {count} rows", scores, talker.codec_head(view.hidden))
    what, norm = f"the code predictor with {count} rows", fused.predictor.norm
    first = random(view.hidden.clone(), 4)
    wanted = predictor(view.hidden, first, view.predictor)[:, 0]
    state = fused.prologue(view, torch.stack((view.hidden, first), 1))
    yield cosine(what, fused.kernels.normalize(state, norm), wanted)
    last, every = len(predictor.lm_head), torch.arange(count, device=first.device)
    for group in sorted({1, last // 2, last - 1} - {0}):
        code = every * 7 % len(fused.tables[group - 1])
        embedded = predictor.embed(group, code)
        wanted = predictor.step(embedded, group, view.predictor)[:, 0]
        state = fused.follow(fused.tables[group - 1][code], view, group)
        scores = fused.kernels.linear(state, fused.heads[group], norm)
        yield cosine(f"{what}, code {group + 1}", scores, predictor.lm_head[group](wanted))


def _draws(fused: FusedTalker, talker: Talker) -> Iterator[Agreed]:
    """Choices from the same scores, and what is read of the tables for them."""
    like, config = talker.codec_head.weight, talker.config
    device, size = like.device, config.vocab_size
    sampler = SamplerRows.build(DRAWS, device)
    for row in range(DRAWS):
        sampler.set(row, SAMPLERS[row % len(SAMPLERS)])
    every = torch.arange(DRAWS, device=device)
    noise = Noise(torch.stack((every * 977, every), 1), every * 3)
    scores = random(like.new_empty(DRAWS, size)) * 4
    seen = (torch.arange(size, device=device) + every[:, None]) % 3 == 0
    penalty = 1 + every / DRAWS
    end = config.codec_eos_token_id
    rules = Rules(seen, penalty, every % 2 == 0, end, size - CONTROL_CODES)
    table = fused.first_table
    yield _same("code 0", fused.kernels, (scores, sampler, noise, 0, rules, table))
    table = fused.tables[-1]
    scores = scores[:, : len(table)].contiguous()
    yield _same("another code", fused.kernels, (scores, sampler, noise, 2, None, table))


def _same(what: str, kernels: Kernels, given: tuple[object, ...]) -> Agreed:
    """Equal choices; what is embedded must be the choice's own row, and where it belongs."""
    table = given[-1]
    assert isinstance(table, Tensor)
    codes = torch.zeros(DRAWS, 3, dtype=torch.int64, device=table.device)
    pair = table.new_zeros(DRAWS, 2, table.shape[1])
    kernels.sample(*given, Into(codes, pair[:, 1]))
    got, (wanted, _) = codes[:, int(str(given[3]))], plain.sample(*given)  # type: ignore[arg-type]
    share = float((got == wanted).float().mean()) / LEAST_DRAWN
    share *= float(torch.equal(pair[:, 1], table[got]) and not pair[:, 0].any())
    return Agreed(f"{what} is chosen alike in {share * LEAST_DRAWN:.2f} of the draws", share)


def _clear(kv: KVBuffer) -> None:
    kv.keys.zero_()
    kv.values.zero_()
