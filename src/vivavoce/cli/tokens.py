"""``vivavoce say --tokens``: one utterance straight through engine neutts, and its speech tokens.

For checking the model: the text is one utterance, nothing watches for silence or loops, and what
is written are the numbers in ``<|speech_N|>``, in order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import typer

from vivavoce.cli.codes import CodesOrder, hear_out, spoken_text, wanted_voice, write_array
from vivavoce.errors import InputError
from vivavoce.types import Sampling, Span, Utterance

if TYPE_CHECKING:
    from vivavoce.cli.target import Target
    from vivavoce.engines.neutts.engine import NeuTTSEngine
    from vivavoce.settings import Settings

ENGINE = "neutts"


def say_tokens(settings: Settings, order: CodesOrder, target: Target) -> None:
    """Speak it into ``target`` and write the tokens (int64 [n]). Raises VivavoceError."""
    engine = _engine(settings)
    engine.load()
    try:
        slot = engine.admit(_utterance(engine, settings, order))
        tokens = engine.record(slot)
        with target.open(engine.info.sample_rate_hz) as sink:
            reason = hear_out(engine, sink)
    finally:
        engine.unload()
    write_array(order.file, np.array(tokens, np.int64))
    if reason == "length":
        typer.echo(f"vivavoce: cut at {len(tokens)} tokens", err=True)


def _engine(settings: Settings) -> NeuTTSEngine:
    from vivavoce.engines.neutts.engine import NeuTTSEngine
    from vivavoce.engines.registry import create_engine

    if settings.engine != ENGINE:
        raise InputError(f"--tokens needs --engine {ENGINE}.", param="tokens")
    options = settings.engine_options | {"capacity": 1}
    engine = create_engine(ENGINE, options, settings.shared_options)
    assert isinstance(engine, NeuTTSEngine)
    return engine


def _utterance(engine: NeuTTSEngine, settings: Settings, order: CodesOrder) -> Utterance:
    how = order.how
    return Utterance(
        (Span(spoken_text(order.text, how, settings, "--tokens")),),
        wanted_voice(engine, settings, order),
        language=how["language"],
        instructions=how["instructions"],
        sampling=Sampling(seed=how["seed"]),
        options={"guards": False, **how["options"]},
    )
