"""How one utterance is spoken: its options, checked, and what they become for a row."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le
from pydantic import Strict, TypeAdapter, ValidationError

from vivavoce.engines.neutts.backbone import TokenSampling
from vivavoce.engines.neutts.family import Family
from vivavoce.engines.neutts.options import NeuTTSOptions
from vivavoce.errors import InputError, Unsupported
from vivavoce.types import Utterance

Flag = Annotated[bool, Strict()]
Share = Annotated[float, Gt(0.0), Le(1.0)]
Temperature = Annotated[float, Ge(0.0), Le(10.0)]


@dataclass(frozen=True, slots=True)
class Manner:
    """Options of one utterance; None takes the engine's own.

    ``emotion`` is one of a 2E model's. ``greedy`` always takes the likeliest code. ``max_codes``
    replaces the budget that follows from the text. ``guards`` False speaks without silence and
    loop detection.
    """

    emotion: str | None = None
    greedy: Flag = False
    top_k: Annotated[int, Ge(0)] | None = None
    min_p: Annotated[float, Ge(0.0), Le(1.0)] | None = None
    min_tokens: Annotated[int, Ge(0)] | None = None
    max_codes: Annotated[int, Ge(1)] | None = None
    guards: Flag = True


_MANNER = TypeAdapter(Manner)
_TEMPERATURE: TypeAdapter[float] = TypeAdapter(Temperature)
_SHARE: TypeAdapter[float] = TypeAdapter(Share)


def manner_of(utterance: Utterance) -> Manner:
    """The utterance's options. Raises InputError that names an unknown or wrong one."""
    known = [field.name for field in fields(Manner)]
    for name in utterance.options:
        if name not in known:
            message = f"The engine 'neutts' has no option {name!r}."
            raise InputError(f"{message} It has: {', '.join(sorted(known))}.", param=name)
    sampling = utterance.sampling
    if sampling.temperature is not None:
        _checked(_TEMPERATURE, sampling.temperature, "temperature")
    if sampling.top_p is not None:
        _checked(_SHARE, sampling.top_p, "top_p")
    return _checked(_MANNER, dict(utterance.options), "")


def emotion_of(manner: Manner, family: Family) -> str | None:
    """The special token for an emotion; None for none. Raises Unsupported, InputError."""
    if manner.emotion is None:
        return None
    if not family.emotions:
        raise Unsupported("This model has no emotions; NeuTTS-2E has.", param="emotion")
    name = manner.emotion.strip().lower()
    if name not in family.emotions:
        known = ", ".join(family.emotions)
        raise InputError(
            f"Unknown emotion {manner.emotion!r}; there are: {known}.", param="emotion"
        )
    return family.emotion_token(name)


def token_sampling(options: NeuTTSOptions, utterance: Utterance, manner: Manner) -> TokenSampling:
    """How its row draws. A temperature of 0 is greedy; without a seed one is drawn."""
    asked = utterance.sampling
    temperature = _or(asked.temperature, options.temperature)
    return TokenSampling(
        temperature=temperature or 1.0,
        top_k=_or(manner.top_k, options.top_k),
        top_p=_or(asked.top_p, options.top_p),
        min_p=_or(manner.min_p, options.min_p),
        seed=random.getrandbits(63) if asked.seed is None else asked.seed,
        min_tokens=_or(manner.min_tokens, options.min_tokens),
        greedy=manner.greedy or temperature == 0,
    )


def _or(given: Any, otherwise: Any) -> Any:
    return otherwise if given is None else given


def _checked(adapter: TypeAdapter[Any], value: Any, name: str) -> Any:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        fault = error.errors()[0]
        at = name or str(fault["loc"][0])
        raise InputError(f"{at}: {fault['msg']}.", param=at) from error
