"""Frames: milliseconds by rows and by stage, first sound, throughput, memory."""

from __future__ import annotations

import statistics
import time
from itertools import pairwise

import torch

from vivavoce.bench.engine.clock import copy_gb_s
from vivavoce.bench.engine.fitting import fitting, left_out
from vivavoce.bench.engine.setting import (
    POSITIONS,
    Setting,
    Told,
    by_precision,
    memory_mb,
    release_memory,
    utterance,
)
from vivavoce.bench.engine.stages import Stages, frame_bytes
from vivavoce.bench.heard import FLOAT_FULL_SCALE, AudibleDetector
from vivavoce.bench.stats import spread_ms
from vivavoce.engines.base import Engine
from vivavoce.engines.options import parse_options
from vivavoce.engines.qwen3.batch import Batch
from vivavoce.engines.qwen3.device import choose_place
from vivavoce.engines.qwen3.graphs import capturing_on
from vivavoce.engines.qwen3.model import Model
from vivavoce.engines.qwen3.options import Qwen3Options
from vivavoce.engines.qwen3.pace import FRAME_MS
from vivavoce.engines.qwen3.prompt import PromptRequest
from vivavoce.engines.qwen3.rows import RowOptions

WARM_UP = 5
FIRST_SOUNDS = 20
FIRST_FRAMES = 24
"""Of such a call: more than are silent before it is heard."""


def measure_frames(setting: Setting) -> Told:
    """Of each precision; beside what was predicted from the bandwidth before."""
    device = torch.device(setting.device)
    bandwidth = copy_gb_s(device, tiny=setting.tiny)
    told = by_precision(setting, lambda precision: _of_precision(setting, precision, bandwidth))
    return {"copy_gb_s": bandwidth, **told}


def _of_precision(asked: Setting, precision: str, bandwidth: float) -> Told:
    setting = fitting(asked, precision)
    options = parse_options(Qwen3Options, "qwen3", setting.options(precision))
    place = choose_place(options)
    began_s = time.perf_counter()
    model = Model.load(setting.folder, place)
    told: Told = {"load_s": round(time.perf_counter() - began_s, 2), **place.details()}
    told |= left_out(asked, setting)
    floor_ms = frame_bytes(model.talker) / bandwidth / 1e6
    told["floor"] = {
        "mb_a_frame": round(frame_bytes(model.talker) / 1e6, 1),
        "ms": round(floor_ms, 3),
    }
    told["predicted_ms"] = predicted_ms(floor_ms, bandwidth, precision, setting.rows)
    batch, prepared = _prepared(model, options, setting)
    told |= prepared
    loops = {rows: loop_ms(batch, model, rows, setting.rounds) for rows in setting.rows}
    told |= {
        "ms": loops,
        "share_of_floor": {rows: round(floor_ms / ms, 3) for rows, ms in loops.items()},
        "audio_s_per_s": {rows: round(rows * FRAME_MS / ms, 1) for rows, ms in loops.items()},
        "weights_mb": model.weights_bytes() // 2**20,
        "rows_mb": batch.memory_bytes() // 2**20,
        "memory_mb": memory_mb(place.device),
        **batch.details(),
    }
    fused = batch.fused
    batch.close()
    del batch
    told["stages_ms"] = {
        rows: _stages_ms(Stages(model, rows, fused), ms, setting) for rows, ms in loops.items()
    }
    del model, fused
    release_memory()
    return told | first_sounds(setting, precision)


def _prepared(model: Model, options: Qwen3Options, setting: Setting) -> tuple[Batch, Told]:
    """The rows, how long it took to check, compile and capture, and what computes them."""
    began_s = time.perf_counter()
    batch = Batch(model, max(setting.rows), POSITIONS, capturing_on(model.place, options))
    took_s = round(time.perf_counter() - began_s, 2)
    told: Told = {
        "prepare_s": took_s,
        "kernels": batch.kernels(),
        "attention": batch.attention(),
        "stages_by": "torch" if batch.fused is None else "triton",
        "compile_mode": batch.compiled,
    }
    costs = batch.costs()
    if costs is not None:  # as captured, the codec compiled where it is
        told["captured_ms"] = {
            "prompt": round(costs.prefill_ms, 3),
            "frame": {rows: round(ms, 3) for rows, ms in costs.frame_ms.items()},
            "codec_chunk": round(costs.chunk_ms, 3),
            "codec_frame": round(costs.sound_ms, 4),
        }
    return batch, told


def _stages_ms(stages: Stages, loop: float, setting: Setting) -> dict[str, float]:
    """``host`` is what a loop that reads one frame late takes over the frame itself."""
    found = stages.measured_ms(max(3, setting.rounds // 4))
    return found | {"host": round(max(0.0, loop - found["frame"]), 4)}


def loop_ms(batch: Batch, model: Model, rows: int, rounds: int) -> float:
    """The median from one frame of ``rows`` rows to the next, without sound."""
    speaker = next(iter(model.config.talker.spk_id))
    for row in range(rows):
        words = PromptRequest([31, 7, 250, 611, 48], "english", speaker=speaker)
        batch.begin(row, words, RowOptions(seed=row, max_frames=POSITIONS // 2))
    pending, marks_s = batch.launch(rows), []
    for _ in range(rounds + WARM_UP):
        following = batch.launch(rows)
        pending.result()
        pending = following
        marks_s.append(time.perf_counter())
    pending.result()
    for row in range(rows):
        batch.release(row)
    marks_s = marks_s[WARM_UP:]
    gaps_s = [after - before for before, after in pairwise(marks_s)]
    return round(statistics.median(gaps_s) * 1000, 3)


def first_sounds(setting: Setting, precision: str) -> Told:
    """From ``admit`` to the first samples, and to the first audible one, one call at a time."""
    engine = setting.engine(precision, 1)
    count = 3 if setting.tiny else FIRST_SOUNDS
    pairs = [first_sound_ms(engine, seed) for seed in range(count)]
    engine.unload()
    firsts, audible = zip(*pairs, strict=True)
    return {"first_sound_ms": spread_ms(firsts), "first_audible_ms": spread_ms(audible)}


def first_sound_ms(engine: Engine, seed: int) -> tuple[float, float | None]:
    """Until there is sound, and until a listener without a buffer hears some, if any is heard.

    Raises AssertionError for a call that ends without sound.
    """
    onset = AudibleDetector(engine.info.sample_rate_hz, full_scale=FLOAT_FULL_SCALE)
    first_s, last, began_s = None, False, time.perf_counter()
    slot = engine.admit(utterance(engine, FIRST_FRAMES, seed))
    while onset.audible_at_s is None and not last:
        for piece in engine.step():
            now_s, last = time.perf_counter(), piece.last
            if len(piece.samples):
                first_s = now_s if first_s is None else first_s
                onset.feed(now_s, piece.samples)
            assert first_s is not None or not last, f"no sound came: {piece.error!r}"
    engine.release(slot)
    assert first_s is not None
    audible_s = onset.audible_at_s
    return (first_s - began_s) * 1000, None if audible_s is None else (audible_s - began_s) * 1000


def predicted_ms(
    floor_ms: float, bandwidth: float, precision: str, rows: tuple[int, ...]
) -> dict[int, float]:
    """Before measuring: small matrices reach less of a fast memory than of a slow one.

    40 % of it over 2 TB/s, 55 % over 0.8 TB/s, 75 % below; int8 and fp8 a tenth less; each row more
    takes one per cent more.
    """
    share = 0.40 if bandwidth > 2000 else 0.55 if bandwidth > 800 else 0.75
    one_ms = floor_ms / (share if precision == "none" else share * 0.9)
    return {count: round(one_ms * (0.99 + 0.01 * count), 2) for count in rows}
