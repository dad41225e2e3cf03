"""How one utterance is spoken: its options, checked, and what they become for a row."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le

from vivavoce.engines.neutts.backbone import TokenSampling
from vivavoce.engines.neutts.family import Family
from vivavoce.engines.neutts.options import NeuTTSOptions
from vivavoce.engines.options import Flag, given_or, parse_request_options
from vivavoce.errors import InputError, Unsupported, shown
from vivavoce.types import Utterance


@dataclass(frozen=True, slots=True)
class RequestOptions:
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


def request_options_of(utterance: Utterance) -> RequestOptions:
    """The utterance's options. Raises InputError that names an unknown or wrong one."""
    return parse_request_options(RequestOptions, "neutts", utterance)


def emotion_of(request: RequestOptions, family: Family) -> str | None:
    """The special token for an emotion; None for none. Raises Unsupported, InputError."""
    if request.emotion is None:
        return None
    if not family.emotions:
        raise Unsupported("This model has no emotions; NeuTTS-2E has.", param="emotion")
    name = request.emotion.strip().lower()
    if name not in family.emotions:
        known = ", ".join(family.emotions)
        raise InputError(
            f"Unknown emotion {shown(request.emotion)}; there are: {known}.", param="emotion"
        )
    return family.emotion_token(name)


def token_sampling(
    options: NeuTTSOptions, utterance: Utterance, request: RequestOptions
) -> TokenSampling:
    """How its row draws. A temperature of 0 is greedy; without a seed one is drawn."""
    asked = utterance.sampling
    temperature = given_or(asked.temperature, options.temperature)
    return TokenSampling(
        temperature=temperature or 1.0,
        top_k=given_or(request.top_k, options.top_k),
        top_p=given_or(asked.top_p, options.top_p),
        min_p=given_or(request.min_p, options.min_p),
        seed=random.getrandbits(63) if asked.seed is None else asked.seed,
        min_tokens=given_or(request.min_tokens, options.min_tokens),
        greedy=request.greedy or temperature == 0,
    )
