"""Calls that come as they like, by rate; then callers who call again at once, for 4 s and 10 s."""

from __future__ import annotations

from vivavoce.bench.engine.fitting import fitting, left_out
from vivavoce.bench.engine.setting import Setting, Told, by_precision, utterance
from vivavoce.bench.engine_load import EngineLoad

RATES_RPS = (1, 4, 10, 20)
LONG_FRAMES = 125
"""10 s, in which the guard against loops has long begun to look."""


def measure_load(setting: Setting) -> Told:
    """First sounds and underruns of calls of 2 to 6 s, and of 10 s, by a playback clock.

    Guards are on, as in service: they take time of the host for each row and frame.
    """
    return by_precision(setting, lambda precision: _of_precision(setting, precision))


def _of_precision(asked: Setting, precision: str) -> Told:
    setting = fitting(asked, precision)
    rows = max(setting.rows)
    engine = setting.engine(precision, rows, guards=True)
    short = EngineLoad(engine, lambda n: utterance(engine, 25 + n * 37 % 51, n, guards=True))
    long = EngineLoad(engine, lambda n: utterance(engine, LONG_FRAMES, n, guards=True))
    rates = RATES_RPS if setting.device == "cuda" and not setting.tiny else RATES_RPS[:1]
    told: Told = left_out(asked, setting)
    told |= {f"{rate} rps": short.open_loop(rate, setting.seconds) for rate in rates}
    told[f"{rows} callers"] = short.closed_loop(rows, setting.seconds)
    told[f"{rows} callers, 10 s each"] = long.closed_loop(rows, setting.seconds)
    engine.unload()
    return told
