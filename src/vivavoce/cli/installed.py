"""Which packages are installed, by the names their distributions have."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires, version

REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*).*;.*extra\s*==\s*['\"]([^'\"]+)['\"]")


def version_of(distribution: str) -> str | None:
    """The installed version, or None."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def extras() -> dict[str, list[str]]:
    """The extras of vivavoce and the distributions each one brings."""
    found: dict[str, list[str]] = {}
    for requirement in requires("vivavoce") or []:
        if match := REQUIREMENT.match(requirement):
            name, extra = match.groups()
            found.setdefault(extra, []).append(name)
    return found
