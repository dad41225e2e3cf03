"""Engines by name: entry points of the group ``vivavoce.engines``, imported when asked for.

An entry point names a function ``create(options: Mapping[str, Any]) -> Engine``.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from vivavoce.engines.base import Engine
from vivavoce.errors import MissingExtra, SettingsError

GROUP = "vivavoce.engines"


def engine_names() -> list[str]:
    """Every engine that an installed package offers, whether or not its extra is installed."""
    return sorted(_entries())


def create_engine(name: str, options: Mapping[str, Any] | None = None) -> Engine:
    """Make an engine, not yet loaded.

    Raises SettingsError for an unknown name or option, MissingExtra where its packages are not
    installed.
    """
    entries = _entries()
    if name not in entries:
        known = ", ".join(sorted(entries))
        raise SettingsError(f"Unknown engine {name!r}. Known engines: {known}.", param="engine")
    try:
        engine = entries[name].load()(options or {})
    except ModuleNotFoundError as error:
        raise MissingExtra(f"The engine {name!r} (missing: {error.name})", name) from error
    if not isinstance(engine, Engine):
        raise SettingsError(f"The entry point of engine {name!r} did not return an Engine.")
    return engine


def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}
