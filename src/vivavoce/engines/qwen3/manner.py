"""How one utterance is spoken: its options, checked, and what they become for a row."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt, Le

from vivavoce.engines.options import Flag, Share, Temperature, given_or, parse_request_options
from vivavoce.engines.qwen3.options import TextLayout
from vivavoce.types import Sampling, Utterance

if TYPE_CHECKING:
    from vivavoce.engines.qwen3.config import GenerationConfig
    from vivavoce.engines.qwen3.rows import RowOptions
    from vivavoce.runtime.nn.sampling import SamplerOptions

Count = Annotated[int, Ge(0)]


@dataclass(frozen=True, slots=True)
class RequestOptions:
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


def request_options_of(utterance: Utterance) -> RequestOptions:
    """The utterance's options. Raises InputError that names an unknown or wrong one."""
    return parse_request_options(RequestOptions, "qwen3", utterance)


def row_options(
    generation: GenerationConfig, sampling: Sampling, request: RequestOptions, max_frames: int
) -> RowOptions:
    """What a row is admitted with. A temperature of 0 is greedy, for both samplers.

    Without a seed one is drawn.
    """
    from vivavoce.engines.qwen3.rows import RowOptions

    penalty = given_or(request.repetition_penalty, generation.repetition_penalty)
    seed = random.getrandbits(64) if sampling.seed is None else sampling.seed
    greedy = request.greedy or sampling.temperature == 0
    return RowOptions(
        _talker_sampler(generation, sampling, request, greedy),
        _code_sampler(generation, request, greedy),
        repetition_penalty=penalty,
        seed=seed,
        max_frames=max_frames,
    )


def _talker_sampler(
    generation: GenerationConfig, sampling: Sampling, request: RequestOptions, greedy: bool
) -> SamplerOptions:
    from vivavoce.runtime.nn.sampling import SamplerOptions

    temperature = given_or(sampling.temperature, generation.temperature)
    drawn = (generation.do_sample or sampling.temperature is not None) and temperature > 0
    return SamplerOptions(
        greedy or not drawn,
        temperature,
        given_or(request.top_k, generation.top_k),
        given_or(sampling.top_p, generation.top_p),
    )


def _code_sampler(
    generation: GenerationConfig, request: RequestOptions, greedy: bool
) -> SamplerOptions:
    from vivavoce.runtime.nn.sampling import SamplerOptions

    temperature = given_or(request.subtalker_temperature, generation.subtalker_temperature)
    drawn = given_or(request.subtalker_dosample, generation.subtalker_dosample) and temperature > 0
    return SamplerOptions(
        greedy or not drawn,
        temperature,
        given_or(request.subtalker_top_k, generation.subtalker_top_k),
        given_or(request.subtalker_top_p, generation.subtalker_top_p),
    )
