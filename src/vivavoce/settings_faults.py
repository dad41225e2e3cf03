"""What is wrong with settings, in words: unknown names with the nearest known one, wrong values."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource, PydanticBaseSettingsSource

from vivavoce.errors import SettingsError


def check_environment(prefix: str, names: Iterable[str]) -> None:
    """Raise SettingsError for a prefixed variable that none of ``names`` has.

    A misspelt one would be ignored silently.
    """
    known = {prefix + name.upper() for name in names}
    for name in sorted(os.environ):
        variable = name.upper()
        if not variable.startswith(prefix) or variable.split("__")[0] in known:
            continue
        near = get_close_matches(variable, sorted(known), n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise SettingsError(f"Unknown environment variable {name}.{hint}", param=name)


def unreadable(path: Path | None, error: Exception) -> SettingsError:
    """Why a configuration file cannot be read: what came of reading it, in words."""
    if isinstance(error, tomllib.TOMLDecodeError):
        why = f"is not TOML: {error}"
    elif isinstance(error, UnicodeDecodeError):
        why = f"is not UTF-8: {error}"
    elif isinstance(error, RecursionError):
        why = "is nested too deeply."
    else:  # no rights; a number of 5,000 digits
        why = f"cannot be read: {error}"
    return SettingsError(f"The configuration file {path} {why}")


def leave_out_empty(source: PydanticBaseSettingsSource, but_for: Iterable[str]) -> None:
    """Make an environment's variables without a value as good as not set.

    Compose writes ``NAME: ${NAME:-}`` so, and nobody means a number or a folder by it. ``but_for``
    are those that mean something when they are empty.
    """
    assert isinstance(source, EnvSettingsSource)
    kept = {name.lower() for name in but_for}
    source.env_vars = {
        name: value for name, value in source.env_vars.items() if value or name.lower() in kept
    }


def explain(error: Exception, names: Iterable[str]) -> str:
    """The faults that pydantic found, each with its setting; ``names`` are the known ones."""
    if not isinstance(error, ValidationError):
        return str(error)
    lines = []
    for fault in error.errors():
        where = ".".join(str(part) for part in fault["loc"]) or "settings"
        lines.append(f"{where}: {_fault_text(where, fault['type'], fault['msg'], names)}")
    return "; ".join(lines)


def _fault_text(where: str, kind: str, message: str, names: Iterable[str]) -> str:
    if kind != "extra_forbidden":
        return message
    near = get_close_matches(where, list(names), n=1)
    return "unknown setting" + (f", did you mean {near[0]}?" if near else "")
