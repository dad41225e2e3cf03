"""What can be set: options of an engine as a whole, and options of one utterance; both checked.

Each engine has two frozen dataclasses for them. Ranges that more than one engine has stand here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from annotated_types import Ge, Gt, Le
from pydantic import Strict, TypeAdapter, ValidationError

from vivavoce.errors import InputError, SettingsError, UnknownOption, shown
from vivavoce.types import Utterance

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MAX_TEMPERATURE = 10.0

Flag = Annotated[bool, Strict()]
Count = Annotated[int, Ge(0)]
Positive = Annotated[int, Ge(1)]
Probability = Annotated[float, Ge(0.0), Le(1.0)]
Share = Annotated[float, Gt(0.0), Le(1.0)]
Temperature = Annotated[float, Ge(0.0), Le(MAX_TEMPERATURE)]

Options = TypeVar("Options")
RequestOptions = TypeVar("RequestOptions", bound="DataclassInstance")


def parse_options(kind: type[Options], engine: str, options: Mapping[str, Any]) -> Options:
    """Check and convert an engine's options; text is converted, as environment variables are text.

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


def parse_request_options(
    kind: type[RequestOptions],
    engine: str,
    utterance: Utterance,
    max_temperature: float = MAX_TEMPERATURE,
) -> RequestOptions:
    """The utterance's own options as a ``kind`` (a dataclass), its sampling looked at, too.

    Raises InputError that names an unknown or wrong one.
    """
    known = {field.name for field in fields(kind)}
    for name in utterance.options:
        if name not in known:
            message = f"The engine {engine!r} has no option {shown(name)}."
            raise InputError(f"{message} It has: {', '.join(sorted(known))}.", param=name)
    sampling = utterance.sampling
    if sampling.temperature is not None:
        _check(_adapter(_upto(max_temperature)), sampling.temperature, "temperature")
    if sampling.top_p is not None:
        _check(_adapter(Share), sampling.top_p, "top_p")
    found: RequestOptions = _check(_adapter(kind), dict(utterance.options), "")
    return found


def given_or(given: Any, otherwise: Any) -> Any:
    """``otherwise`` where nothing was given."""
    return otherwise if given is None else given


@cache
def _upto(limit: float) -> Any:
    return Annotated[float, Ge(0.0), Le(limit)]


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _check(adapter: TypeAdapter[Any], value: Any, name: str) -> Any:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        fault = error.errors()[0]
        at = name or str(fault["loc"][0])
        raise InputError(f"{at}: {fault['msg']}.", param=at) from error
