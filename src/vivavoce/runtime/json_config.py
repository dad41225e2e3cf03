"""Reading JSON files into frozen dataclasses: every field must be there and of its type."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from vivavoce.errors import ModelFileError

Values = TypeVar("Values")

JSON_TYPES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


@dataclass(frozen=True, slots=True)
class JsonObject:
    """One object of a JSON file; ``prefix`` is its place in the file, for messages."""

    file: Path
    values: Mapping[str, Any]
    prefix: str = ""

    @classmethod
    def read(cls, file: Path) -> JsonObject:
        """The file's one object. Raises ModelFileError for a missing or damaged file."""
        try:
            values = json.loads(file.read_text("utf-8"))
        except OSError as error:
            raise ModelFileError(f"{file} cannot be read: {error.strerror or error}") from error
        except ValueError as error:
            raise ModelFileError(f"{file} is not valid JSON: {error}") from error
        if not isinstance(values, dict):
            raise ModelFileError(f"{file} holds no JSON object.")
        return cls(file, values)

    def child(self, key: str) -> JsonObject:
        """The object under ``key``. Raises ModelFileError."""
        value = self._value(key)
        if not isinstance(value, dict):
            raise self.fault(key, f"is {_shown(value)}, not an object")
        return JsonObject(self.file, value, f"{self.prefix}{key}.")

    def get(self, key: str, kind: Any) -> Any:
        """The value under ``key``, as ``kind``. Raises ModelFileError."""
        return self._converted(key, self._value(key), kind)

    def into(self, kind: type[Values], **more: Any) -> Values:
        """A ``kind`` whose fields are this object's keys; ``more`` gives fields that are not.

        Raises ModelFileError that names the file and the key.
        """
        hints = get_type_hints(kind)
        named = [f.name for f in fields(kind) if f.name not in more]  # type: ignore[arg-type]
        return kind(**{name: self.get(name, hints[name]) for name in named}, **more)

    def demand(self, key: str, wanted: bool | int | str) -> None:
        """Refuse any other value. Raises ModelFileError."""
        value = self._value(key)
        if type(value) is not type(wanted) or value != wanted:
            raise self.fault(key, f"is {_shown(value)}; only {_shown(wanted)} is supported")

    def demand_positive(self, *keys: str) -> None:
        """Refuse whole numbers below one. Raises ModelFileError."""
        for key in keys:
            if self.get(key, int) < 1:
                raise self.fault(key, f"is {self.get(key, int)}, not above zero")

    def fault(self, key: str, what: str) -> ModelFileError:
        """An error about one key."""
        return ModelFileError(f"{self.file}: the key '{self.prefix}{key}' {what}.")

    def _value(self, key: str) -> Any:
        if key not in self.values:
            raise self.fault(key, "is missing")
        return self.values[key]

    def _converted(self, key: str, value: Any, kind: Any) -> Any:
        origin = get_origin(kind)
        if origin is tuple:
            return self._items(key, value, get_args(kind)[0])
        if origin is not None:
            return self._mapping(key, value, get_args(kind)[1])
        if not _is(value, kind):
            raise self.fault(key, f"is {_shown(value)}, not {JSON_TYPES[kind]}")
        return kind(value)

    def _items(self, key: str, value: Any, kind: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise self.fault(key, f"is {_shown(value)}, not a list")
        return tuple(self._converted(key, item, kind) for item in value)

    def _mapping(self, key: str, value: Any, kind: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.fault(key, f"is {_shown(value)}, not an object")
        return {name: self._converted(key, item, kind) for name, item in value.items()}


def _is(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
