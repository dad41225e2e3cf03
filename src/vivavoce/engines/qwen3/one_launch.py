"""A frame's codes after the first in one launch, where it gives what one for each phase gives."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch
from torch import Tensor, nn

from vivavoce.engines.kernels.decoder import AT_ONCE
from vivavoce.engines.qwen3.agreement import LEAST, UNUSABLE
from vivavoce.engines.qwen3.fused import FusedTalker
from vivavoce.engines.qwen3.rows import RowState

log = logging.getLogger(__name__)

UNMADE: tuple[type[Exception], ...] = UNUSABLE

GIVEN = 2
"""Tokens of a frame that are given: what is stored of them hangs on no choice."""


def in_one_launch(fused: FusedTalker, state: RowState) -> FusedTalker:
    """``fused`` with up to ``AT_ONCE`` rows' frames in one launch, tried on idle rows.

    Where it cannot be made or does not agree it stays as it is, and why is logged.
    """
    try:
        whole = with_whole(fused)
        cosine = least(fused, whole, state)
    except UNMADE as error:
        log.warning("No frames in one launch: %s", error)
        return fused
    if cosine < LEAST:
        log.warning("No frames in one launch: what they store has a cosine of %.4f.", cosine)
        return fused
    return whole


def with_whole(fused: FusedTalker) -> FusedTalker:
    """With the kernel, not tried. Raises what cannot be used raises."""
    from vivavoce.engines.kernels.whole_frame import PROGRAMS, WholeFrame

    device = fused.head.data.device
    programs = 1
    if device.type == "cuda":
        programs = PROGRAMS * torch.cuda.get_device_properties(device).multi_processor_count
    return replace(fused, whole=WholeFrame.of(fused.predictor, fused.heads, fused.tables, programs))


@torch.no_grad()
def least(fused: FusedTalker, whole: FusedTalker, state: RowState) -> float:
    """The least cosine of what both store of a frame's given tokens; the buffers end as zeros."""
    found = [1.0]
    for count in sorted({1, min(AT_ONCE, len(state.status))}):
        view = replace(state.rows(0, count), hidden=_random(state.hidden[:count]))
        first = torch.arange(count, device=view.hidden.device)
        stored = []
        for each in (fused, whole):
            each.rest(view, first, each.first_table[first])
            stored.append(_taken(view))
        found.append(_cosine(*stored))
    return min(found)


def _taken(view: RowState) -> Tensor:
    """Keys and values of the given tokens, a line for each row's token; zeros instead."""
    kv, lines = view.predictor.kv, []
    for buffer in (kv.keys, kv.values):
        layers, rows = buffer.shape[:2]
        lines.append(buffer[:, :, :, :GIVEN].transpose(2, 3).reshape(layers * rows * GIVEN, -1))
    taken = torch.cat(lines)
    kv.keys.zero_()
    kv.values.zero_()
    return taken


def _random(like: Tensor) -> Tensor:
    generator = torch.Generator(like.device).manual_seed(11)
    return like.clone().normal_(generator=generator)


def _cosine(got: Tensor, wanted: Tensor) -> float:
    cosines = nn.functional.cosine_similarity(got.float(), wanted.float(), dim=-1)
    return float(cosines.nan_to_num(-1.0).min())
