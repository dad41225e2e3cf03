"""The codes of a frame after the first: one launch beside some hundred in a graph.

It runs by itself, as a part of its own: it waits for programs that must all run at once.
"""

from __future__ import annotations

from functools import partial

import torch

from vivavoce.bench.engine.clock import copy_gb_s, median_ms
from vivavoce.bench.engine.setting import Setting, Told, by_precision, release_memory
from vivavoce.engines.kernels.chooser import Path, chosen
from vivavoce.engines.kernels.decoder import AT_ONCE
from vivavoce.engines.layers.sampling import SamplerOptions
from vivavoce.engines.options import parse_options
from vivavoce.engines.qwen3.device import choose_place
from vivavoce.engines.qwen3.fused import FusedTalker
from vivavoce.engines.qwen3.model import Model
from vivavoce.engines.qwen3.one_launch import least, with_whole
from vivavoce.engines.qwen3.options import Qwen3Options
from vivavoce.engines.qwen3.rows import RowState

POSITIONS = 64
LAUNCH_US, BARRIER_US, SHARE = (2.0, 3.0), (1.0, 2.0), 0.85
"""What was predicted from: microseconds of a launch in a graph and of a barrier; of bandwidth."""


def measure_launch(setting: Setting) -> Told:
    """Of each precision, by rows."""
    device = torch.device(setting.device)
    if device.type != "cuda":
        return {"skipped": f"one launch needs kernels, and the device is {device.type}"}
    bandwidth = copy_gb_s(device, tiny=setting.tiny)
    told = by_precision(setting, lambda precision: _of_precision(setting, precision, bandwidth))
    return {"copy_gb_s": bandwidth, **told}


def _of_precision(setting: Setting, precision: str, bandwidth: float) -> Told:
    options = parse_options(Qwen3Options, "qwen3", setting.options(precision))
    place = choose_place(options)
    kernels = chosen(place.device, place.dtype)
    if kernels.path is not Path.TRITON:
        return {"skipped": kernels.why}
    model = Model.load(setting.folder, place)
    fused = FusedTalker.of(model.talker, kernels, AT_ONCE)
    told: Told = {"predicted_ms": predicted_ms(fused, bandwidth), "rows": {}}
    for rows in (count for count in setting.rows if count <= AT_ONCE):
        told["rows"][rows] = _of_rows(model, fused, rows, setting.rounds)
    del model, fused
    release_memory()
    return told


@torch.inference_mode()
def _of_rows(model: Model, fused: FusedTalker, rows: int, rounds: int) -> Told:
    whole = with_whole(fused)
    like = model.talker.codec_head.weight
    state = RowState.build(model.config.talker, rows, POSITIONS, like)
    for row in range(rows):
        state.code_sampler.set(row, SamplerOptions())
    cosine = least(fused, whole, state)
    state.hidden.normal_()
    first = torch.zeros(rows, dtype=torch.int64, device=like.device)
    embedded = fused.first_table[first]
    codes = [each.rest(state, first, embedded)[0] for each in (fused, whole)]
    many, one = (
        median_ms([partial(each.rest, state, first, embedded)] * 4, like.device, rounds)
        for each in (fused, whole)
    )
    return {
        "many_ms": round(many, 4),
        "one_ms": round(one, 4),
        "one_to_many": round(one / many, 3),
        "least_cosine": round(cosine, 5),
        "equal_codes": round(float((codes[0] == codes[1]).float().mean()), 3),
    }


def predicted_ms(fused: FusedTalker, bandwidth: float) -> Told:
    """Before measuring, for one row: least and most. One launch reads the weights once more."""
    passes, layers = len(fused.heads), len(fused.predictor.layers)
    read = passes * fused.predictor.nbytes + sum(head.nbytes for head in fused.heads)
    phases = 5 * layers + 2
    least_ms = read / (bandwidth * SHARE) / 1e6
    again_ms = fused.predictor.nbytes / (bandwidth * SHARE) / 1e6
    return {
        "many": [round(least_ms + passes * phases * us / 1000, 3) for us in LAUNCH_US],
        "one": [
            round(least_ms + again_ms + (passes + 1) * phases * us / 1000, 3) for us in BARRIER_US
        ],
    }
