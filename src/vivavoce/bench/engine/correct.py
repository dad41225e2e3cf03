"""Codes in float32 by rows: captured as without captures, and a row alone as in company."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, cast

from vivavoce.bench.engine.setting import Setting, Told, release_memory, utterance

if TYPE_CHECKING:
    from vivavoce.engines.qwen3.engine import Qwen3Engine

FRAMES = 12
Codes: TypeAlias = list[list[int]]


def measure_correctness(setting: Setting) -> Told:
    """Greedy codes of different texts; nothing is captured on a CPU."""
    ways = {"eager": False, "captured": True} if setting.device == "cuda" else {"eager": False}
    heard = {name: _by_rows(setting, graphs=graphs) for name, graphs in ways.items()}
    eager = heard["eager"]
    alone = eager[setting.rows[0]][0]
    told: Told = {
        "frames": FRAMES,
        "alone = in company": {rows: codes[0] == alone for rows, codes in eager.items()},
    }
    if "captured" in heard:
        captured = heard["captured"]
        told["captured = eager"] = {rows: captured[rows] == eager[rows] for rows in eager}
    return told


def _by_rows(setting: Setting, *, graphs: bool) -> dict[int, list[Codes]]:
    more = {"cuda_graphs": graphs} if setting.device == "cuda" else {}
    loaded = setting.engine("none", max(setting.rows), dtype="float32", **more)
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
