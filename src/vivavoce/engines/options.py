"""Engine options: a mapping from settings or keyword arguments into a frozen dataclass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from vivavoce.errors import SettingsError, UnknownOption

Options = TypeVar("Options")


def parse_options(kind: type[Options], engine: str, options: Mapping[str, Any]) -> Options:
    """Check and convert options; text is converted, as environment variables are text.

    A class variable ``GONE`` of ``kind`` says what to do without options that it had once. Raises
    SettingsError that names the option, UnknownOption where there is none of that name.
    """
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    gone: Mapping[str, str] = getattr(kind, "GONE", {})
    for name in options:
        if name in gone:
            raise SettingsError(
                f"Engine {engine!r} has no option {name!r} any more: {gone[name]}.", param=name
            )
        if name not in known:
            near = get_close_matches(name, sorted(known), n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            message = f"Unknown option {name!r} of engine {engine!r}.{hint}"
            raise UnknownOption(f"{message} It has: {', '.join(sorted(known))}.", param=name)
    try:
        return TypeAdapter(kind).validate_python(dict(options))
    except ValidationError as error:
        fault = error.errors()[0]
        name = ".".join(str(part) for part in fault["loc"])
        raise SettingsError(
            f"Option {name!r} of engine {engine!r}: {fault['msg']}", param=name
        ) from error
