"""Codes by rows, captured as without captures, and a row alone as in company; scores by buckets."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeAlias, cast

from vivavoce.bench.engine.buckets import across_buckets
from vivavoce.bench.engine.fitting import fitting, left_out
from vivavoce.bench.engine.setting import Setting, Told, release_memory, told_or_failed, utterance

if TYPE_CHECKING:
    from vivavoce.engines.qwen3.engine import Qwen3Engine

FRAMES = 12
DTYPES = {"cuda": ("float32", "bfloat16"), "cpu": ("float32",)}
Codes: TypeAlias = list[list[int]]


def measure_correctness(setting: Setting) -> Told:
    """Greedy codes of different texts; nothing is captured on a CPU.

    float32 keeps PyTorch's products, whose sums hang on the number of rows: two scores may be so
    near to each other that a row in a larger bucket chooses the other. Without captures bfloat16 is
    computed by the same kernels in the same sizes.
    """
    told: Told = {"frames": FRAMES}
    for dtype in DTYPES[setting.device]:
        told[dtype] = told_or_failed(partial(_of_dtype, setting, dtype))
        setting.keep(told)
    told["across buckets"] = told_or_failed(lambda: across_buckets(fitting(setting, "none")))
    release_memory()
    return told


def _of_dtype(asked: Setting, dtype: str) -> Told:
    setting = fitting(asked, "none", dtype=dtype)
    ways = {"eager": False, "captured": True} if setting.device == "cuda" else {"eager": False}
    heard = {name: _by_rows(setting, dtype, graphs=graphs) for name, graphs in ways.items()}
    eager = heard["eager"]
    alone = eager[setting.rows[0]][0]
    told: Told = {
        "alone = in company": {rows: alike([codes[0]], [alone]) for rows, codes in eager.items()},
        **left_out(asked, setting),
    }
    if "captured" in heard:
        captured = heard["captured"]
        told["captured = eager"] = {rows: alike(captured[rows], eager[rows]) for rows in eager}
    return told


def alike(got: list[Codes], wanted: list[Codes]) -> bool | str:
    """Whether all rows' codes are the same; else how many are, and where the first one differs."""
    differing = [
        row for row, pair in enumerate(zip(got, wanted, strict=True)) if pair[0] != pair[1]
    ]
    if not differing:
        return True
    row = differing[0]
    frames = enumerate(zip(got[row], wanted[row], strict=False))
    place = next((f"frame {at}" for at, (one, other) in frames if one != other), "its end")
    return f"{len(got) - len(differing)} of {len(got)} rows; row {row} differs from {place} on"


def _by_rows(setting: Setting, dtype: str, *, graphs: bool) -> dict[int, list[Codes]]:
    cuda = setting.device == "cuda"  # The codec has no part in codes, and takes minutes to compile.
    more = {"cuda_graphs": graphs, "torch_compile_mode": "off"} if cuda else {}
    loaded = setting.engine("none", max(setting.rows), dtype=dtype, **more)
    engine = cast("Qwen3Engine", loaded)
    codes = {rows: _together(engine, rows) for rows in setting.rows}
    engine.unload()
    release_memory()
    return codes


def _together(engine: Qwen3Engine, rows: int) -> list[Codes]:
    slots = [engine.admit(utterance(engine, FRAMES, n, greedy=True)) for n in range(rows)]
    codes = [engine.record(slot) for slot in slots]
    live = set(slots)
    while live:
        live -= {produced.slot for produced in engine.step() if produced.last}
    return [[frame.tolist() for frame in each] for each in codes]
