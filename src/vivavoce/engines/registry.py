"""Engines by name: entry points of the group ``vivavoce.engines``, imported when asked for.

An entry point names a function ``create(options: Mapping[str, Any]) -> Engine``, which raises
SettingsError for an option that it does not know. The module that holds it may also have a function
``options_class() -> type`` that returns the dataclass of the options. Then the engine is offered
what is set for whichever engine has such an option. Of its class variables, ``DEVICES`` names the
options that say where the engine runs, if ``device`` alone does not, and ``RECORDS`` says what it
records (see ``Engine.record``), in the plural: "tokens".
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from vivavoce.engine_tables import GROUP
from vivavoce.engines.base import Engine
from vivavoce.errors import MissingExtra, SettingsError

log = logging.getLogger(__name__)

DEFAULT_ENGINE = "piper"
NO_EFFECT = "%s=%s has no effect: the engine %r has no such option."
NOTHING = (False, "", "none", "off")
"""Values that ask for nothing: an engine without the option does what they say."""

UNASKED = ("models_dir",)
"""What is offered though nobody set it: nothing is said of an engine without it."""


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
    entry, own = _entry(name), dict(options or {})
    known = _options_of(entry)
    for option, value in (shared or {}).items():
        if option in own:
            continue
        if option in known:
            own[option] = value
        elif value not in NOTHING and option not in UNASKED:
            log.warning(NO_EFFECT, option.upper(), value, name)
    try:
        engine = entry.load()(own)
    except ModuleNotFoundError as error:
        raise MissingExtra(f"The engine {name!r} (missing: {error.name})", name) from error
    if not isinstance(engine, Engine):
        raise SettingsError(f"The entry point of engine {name!r} did not return an Engine.")
    return engine


def known_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``options`` that an engine says it has. Raises SettingsError."""
    known = _options_of(_entry(name))
    return {option: value for option, value in options.items() if option in known}


def device_options(name: str) -> tuple[str, ...]:
    """The options that say where an engine runs. Raises SettingsError for an unknown engine."""
    return tuple(getattr(_options_class(_entry(name)), "DEVICES", ("device",)))


def recorded_unit(name: str) -> str:
    """What an engine's codes are codes of; "" where it records none. Raises SettingsError."""
    return str(getattr(_options_class(_entry(name)), "RECORDS", ""))


def recording_engines() -> list[str]:
    """Those engines that record codes."""
    return [name for name in engine_names() if recorded_unit(name)]


def _options_of(entry: EntryPoint) -> set[str]:
    kind = _options_class(entry)
    return set() if kind is None else {each.name for each in fields(kind)}


def _options_class(entry: EntryPoint) -> type[Any] | None:
    """The dataclass of an engine's options; None where it does not say."""
    try:
        kind = getattr(import_module(entry.module), "options_class", None)
        return None if kind is None else kind()
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"The engine {entry.name!r} (missing: {error.name})", entry.name
        ) from error


def _entry(name: str) -> EntryPoint:
    entries = _entries()
    if name not in entries:
        known = ", ".join(sorted(entries))
        raise SettingsError(f"Unknown engine {name!r}. Known engines: {known}.", param="engine")
    return entries[name]


def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}
