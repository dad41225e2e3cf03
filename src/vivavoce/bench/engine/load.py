"""Calls that come as they like, by rate; then callers who call again at once."""

from __future__ import annotations

from vivavoce.bench.engine.setting import Setting, Told, by_precision, utterance
from vivavoce.bench.engine_load import EngineLoad

RATES_RPS = (1, 4, 10, 20)


def measure_load(setting: Setting) -> Told:
    """First sounds and underruns of calls of 2 to 6 s, by a playback clock."""
    return by_precision(setting, lambda precision: _of_precision(setting, precision))


def _of_precision(setting: Setting, precision: str) -> Told:
    rows = max(setting.rows)
    engine = setting.engine(precision, rows)
    load = EngineLoad(engine, lambda n: utterance(engine, 25 + n * 37 % 51, n))
    rates = RATES_RPS if setting.device == "cuda" and not setting.tiny else RATES_RPS[:1]
    told = {f"{rate} rps": load.open_loop(rate, setting.seconds) for rate in rates}
    told[f"{rows} callers"] = load.closed_loop(rows, setting.seconds)
    engine.unload()
    return told
