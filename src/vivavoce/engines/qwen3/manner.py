"""How one utterance is spoken: its options, checked, and what they become for a row."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt, Le
from pydantic import Strict, TypeAdapter, ValidationError

from vivavoce.engines.qwen3.options import TextLayout
from vivavoce.errors import InputError
from vivavoce.types import Sampling, Utterance

if TYPE_CHECKING:
    from vivavoce.engines.qwen3.config import GenerationConfig
    from vivavoce.engines.qwen3.rows import RowOptions
    from vivavoce.engines.qwen3.sampling import SamplerOptions

MAX_TEMPERATURE = 10.0

Flag = Annotated[bool, Strict()]
Count = Annotated[int, Ge(0)]
Share = Annotated[float, Gt(0.0), Le(1.0)]
Temperature = Annotated[float, Ge(0.0), Le(MAX_TEMPERATURE)]


@dataclass(frozen=True, slots=True)
class Manner:
    """Options of one utterance; None takes the checkpoint's or the engine's own.

    ``greedy`` always takes the best code, in the code predictor ("subtalker") too. ``max_frames``
    replaces the budget that follows from the text. ``guards`` False speaks without silence and
    loop detection.
    """

    greedy: Flag = False
    text_layout: TextLayout = "auto"
    top_k: Count | None = None
    repetition_penalty: Annotated[float, Gt(0.0), Le(10.0)] | None = None
    subtalker_dosample: Flag | None = None
    subtalker_temperature: Temperature | None = None
    subtalker_top_k: Count | None = None
    subtalker_top_p: Share | None = None
    max_frames: Annotated[int, Ge(1)] | None = None
    guards: Flag = True


_MANNER = TypeAdapter(Manner)
_TEMPERATURE: TypeAdapter[float] = TypeAdapter(Temperature)
_SHARE: TypeAdapter[float] = TypeAdapter(Share)


def manner_of(utterance: Utterance) -> Manner:
    """The utterance's options. Raises InputError that names an unknown or wrong one."""
    known = [field.name for field in fields(Manner)]
    for name in utterance.options:
        if name not in known:
            message = f"The engine 'qwen3' has no option {name!r}."
            raise InputError(f"{message} It has: {', '.join(sorted(known))}.", param=name)
    sampling = utterance.sampling
    if sampling.temperature is not None:
        _checked(_TEMPERATURE, sampling.temperature, "temperature")
    if sampling.top_p is not None:
        _checked(_SHARE, sampling.top_p, "top_p")
    return _checked(_MANNER, dict(utterance.options), "")


def row_options(
    generation: GenerationConfig, sampling: Sampling, manner: Manner, max_frames: int
) -> RowOptions:
    """What a row is admitted with. A temperature of 0 is greedy, for both samplers.

    Without a seed one is drawn.
    """
    from vivavoce.engines.qwen3.rows import RowOptions

    penalty = _or(manner.repetition_penalty, generation.repetition_penalty)
    seed = random.getrandbits(64) if sampling.seed is None else sampling.seed
    greedy = manner.greedy or sampling.temperature == 0
    return RowOptions(
        _talker_sampler(generation, sampling, manner, greedy),
        _code_sampler(generation, manner, greedy),
        repetition_penalty=penalty,
        seed=seed,
        max_frames=max_frames,
    )


def _talker_sampler(
    generation: GenerationConfig, sampling: Sampling, manner: Manner, greedy: bool
) -> SamplerOptions:
    from vivavoce.engines.qwen3.sampling import SamplerOptions

    temperature = _or(sampling.temperature, generation.temperature)
    drawn = (generation.do_sample or sampling.temperature is not None) and temperature > 0
    return SamplerOptions(
        greedy or not drawn,
        temperature,
        _or(manner.top_k, generation.top_k),
        _or(sampling.top_p, generation.top_p),
    )


def _code_sampler(generation: GenerationConfig, manner: Manner, greedy: bool) -> SamplerOptions:
    from vivavoce.engines.qwen3.sampling import SamplerOptions

    temperature = _or(manner.subtalker_temperature, generation.subtalker_temperature)
    drawn = _or(manner.subtalker_dosample, generation.subtalker_dosample) and temperature > 0
    return SamplerOptions(
        greedy or not drawn,
        temperature,
        _or(manner.subtalker_top_k, generation.subtalker_top_k),
        _or(manner.subtalker_top_p, generation.subtalker_top_p),
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
