"""Which numbers of rows a card has the memory for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vivavoce.bench.engine.setting import POSITIONS, Setting, Told


def fitting(setting: Setting, precision: str, **more: Any) -> Setting:
    """The setting with those of its rows that fit, by the sum that a server goes by.

    ``more`` are options of the engine. On a CPU all of them fit. Raises SetupError, with the sum,
    where the fewest do not.
    """
    from vivavoce.engines.options import parse_options
    from vivavoce.engines.qwen3.config import Qwen3Config
    from vivavoce.engines.qwen3.device import card_on, choose_place
    from vivavoce.engines.qwen3.memory import MIB, Room, planned_footprint, rows_that_fit
    from vivavoce.engines.qwen3.options import Qwen3Options

    options = parse_options(Qwen3Options, "qwen3", setting.options(precision, **more))
    place = choose_place(options)
    card = card_on(place)
    if card is None:
        return setting
    memory = card.memory()
    room = Room(memory.total, memory.free, options.gpu_memory_budget_mb * MIB)
    planned = planned_footprint(Qwen3Config.load(setting.folder), place, POSITIONS)
    fewest, *others = sorted(setting.rows)
    rows_that_fit(planned, room, fewest, fixed=True)
    fit = {fewest, *(rows for rows in others if planned.total(rows) <= room.most)}
    return replace(setting, rows=tuple(rows for rows in setting.rows if rows in fit))


def left_out(asked: Setting, fitted: Setting) -> Told:
    """What the report says of rows that do not fit, where there are any."""
    rows = [each for each in asked.rows if each not in fitted.rows]
    return {"rows_without_room": rows} if rows else {}
