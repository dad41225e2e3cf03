"""How an utterance is to be spoken by engines that draw from a language model: options, checked."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from annotated_types import Ge, Gt, Le
from pydantic import Strict, TypeAdapter, ValidationError

from vivavoce.errors import InputError, shown
from vivavoce.types import Utterance

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MAX_TEMPERATURE = 10.0

Flag = Annotated[bool, Strict()]
Share = Annotated[float, Gt(0.0), Le(1.0)]
Temperature = Annotated[float, Ge(0.0), Le(MAX_TEMPERATURE)]

Manner = TypeVar("Manner", bound="DataclassInstance")

_TEMPERATURE: TypeAdapter[float] = TypeAdapter(Temperature)
_SHARE: TypeAdapter[float] = TypeAdapter(Share)


def checked_manner(kind: type[Manner], engine: str, utterance: Utterance) -> Manner:
    """The utterance's options as a ``kind`` (a dataclass), its sampling looked at, too.

    Raises InputError that names an unknown or wrong one.
    """
    known = {field.name for field in fields(kind)}
    for name in utterance.options:
        if name not in known:
            message = f"The engine {engine!r} has no option {shown(name)}."
            raise InputError(f"{message} It has: {', '.join(sorted(known))}.", param=name)
    sampling = utterance.sampling
    if sampling.temperature is not None:
        _checked(_TEMPERATURE, sampling.temperature, "temperature")
    if sampling.top_p is not None:
        _checked(_SHARE, sampling.top_p, "top_p")
    found: Manner = _checked(_adapter(kind), dict(utterance.options), "")
    return found


def given_or(given: Any, otherwise: Any) -> Any:
    """``otherwise`` where nothing was given."""
    return otherwise if given is None else given


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _checked(adapter: TypeAdapter[Any], value: Any, name: str) -> Any:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        fault = error.errors()[0]
        at = name or str(fault["loc"][0])
        raise InputError(f"{at}: {fault['msg']}.", param=at) from error
