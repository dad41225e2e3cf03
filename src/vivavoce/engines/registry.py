"""Engines by name: entry points of the group ``vivavoce.engines``, imported when asked for.

An entry point names a function ``create(options: Mapping[str, Any]) -> Engine``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from vivavoce.engines.base import Engine
from vivavoce.errors import MissingExtra, SettingsError, UnknownOption

log = logging.getLogger(__name__)

GROUP = "vivavoce.engines"
DEFAULT_ENGINE = "piper"
NO_EFFECT = "%s=%s has no effect: the engine %r has no such option."
NOTHING = (False, "", "none", "off")
"""Values that ask for nothing: an engine without the option does what they say."""


def engine_names() -> list[str]:
    """Every engine that an installed package offers, whether or not its extra is installed."""
    return sorted(_entries())


def create_engine(
    name: str, options: Mapping[str, Any] | None = None, shared: Mapping[str, Any] | None = None
) -> Engine:
    """Make an engine, not yet loaded.

    ``shared`` are options that were set for any engine, in the environment of a machine perhaps:
    one that this engine does not have is named in the log, and does not stop it.

    Raises SettingsError for an unknown name or option, MissingExtra where its packages are not
    installed.
    """
    offered = {key: value for key, value in (shared or {}).items() if key not in (options or {})}
    while True:
        try:
            return _create(name, {**(options or {}), **offered})
        except UnknownOption as error:
            option = error.param or ""
            if option not in offered:
                raise
            value = offered.pop(option)
            if value not in NOTHING:
                log.warning(NO_EFFECT, option.upper(), value, name)


def _create(name: str, options: Mapping[str, Any]) -> Engine:
    entries = _entries()
    if name not in entries:
        known = ", ".join(sorted(entries))
        raise SettingsError(f"Unknown engine {name!r}. Known engines: {known}.", param="engine")
    try:
        engine = entries[name].load()(options)
    except ModuleNotFoundError as error:
        raise MissingExtra(f"The engine {name!r} (missing: {error.name})", name) from error
    if not isinstance(engine, Engine):
        raise SettingsError(f"The entry point of engine {name!r} did not return an Engine.")
    return engine


def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}
