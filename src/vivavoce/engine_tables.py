"""Options of engines among the settings: a table for every one that is installed, of this package
or of another one, and what is offered to all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings, EnvSettingsSource

GROUP = "vivavoce.engines"
"""The group of entry points that engines are found by."""

FIELD = "engines"
"""The setting that holds the tables."""

SHARED = (
    "quantize",
    "torch_compile",
    "torch_compile_mode",
    "cuda_graphs",
    "gpu_memory_budget_mb",
)
"""Settings that are offered to whichever engine speaks; one that has no such option is not stopped
by them (``engines/registry.py``)."""

UNSET = {"quantize": "auto", "gpu_memory_budget_mb": 0}
"""Values of theirs that leave the choice to the engine."""


def table_name(engine: str) -> str:
    """An engine's name as its table has it, in the environment, too."""
    return engine.replace("-", "_")


def table_names(settings: Iterable[str]) -> tuple[str, ...]:
    """The tables of all installed engines, but for those called as one of ``settings``.

    Such an engine has its table below ``engines`` alone.
    """
    return tuple(sorted(_installed().difference(settings)))


def gathered(values: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """Values of settings, with the tables that stand under engines' names below ``engines``."""
    tables = {name: values[name] for name in table_names(settings) if name in values}
    others = {name: value for name, value in values.items() if name not in tables}
    return others | {FIELD: {**values.get(FIELD, {}), **tables}} if tables else others


def tables_in_environment(settings: type[BaseSettings]) -> EnvSettingsSource:
    """The tables that variables hold, read by the rules of ``settings``."""
    from pydantic import create_model
    from pydantic_settings import BaseSettings, EnvSettingsSource

    fields: dict[str, Any] = {
        name: (dict[str, Any], {}) for name in table_names(settings.model_fields)
    }
    rules = type("Rules", (BaseSettings,), {"model_config": settings.model_config})
    return EnvSettingsSource(create_model("Tables", __base__=rules, **fields))


def asked_of_any(settings: BaseSettings) -> dict[str, Any]:
    """What was set for whichever engine has such an option."""
    values = {name: getattr(settings, name) for name in SHARED}
    return {
        name: value
        for name, value in values.items()
        if value is not None and value != UNSET.get(name)
    }


@cache
def _installed() -> frozenset[str]:
    return frozenset(table_name(entry.name) for entry in entry_points(group=GROUP))
