"""``vivavoce say --codes``: one utterance straight through the engine, and its codes in a file.

For checking the model: the text is not segmented, nothing watches for silence or loops, and the
sound is what the codec gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import typer

from vivavoce.errors import InputError
from vivavoce.types import AudioChunk, ReferenceAudio, Sampling, Span, Utterance, Voice

if TYPE_CHECKING:
    from vivavoce.cli.sinks import Sink
    from vivavoce.cli.target import Target
    from vivavoce.engines.base import Engine
    from vivavoce.engines.qwen3.engine import Qwen3Engine
    from vivavoce.settings import Settings

ENGINE = "qwen3"
PROMPT_POSITIONS = 1024
"""Room for the prompt beside the frames that were asked for."""


@dataclass(frozen=True, slots=True)
class CodesOrder:
    """What to say and how, and the file for the codes (int64, frames × 16, .npy)."""

    text: str
    file: Path
    how: Mapping[str, Any]
    reference: ReferenceAudio | None


def say_codes(settings: Settings, order: CodesOrder, target: Target) -> None:
    """Speak it into ``target`` and write the codes. Raises VivavoceError."""
    engine = _engine(settings, order)
    engine.load()
    try:
        codes, reason = _speak(
            engine, _utterance(engine, settings, order), target.open(engine.info.sample_rate_hz)
        )
    finally:
        engine.unload()
    write_array(order.file, codes)
    if reason == "length":
        typer.echo(f"vivavoce: cut at {len(codes)} frames", err=True)


def spoken_text(
    text: str, how: Mapping[str, Any], settings: Settings, flag: str = "--codes"
) -> str:
    """The text in one piece, normalized unless ``how`` or the settings say no.

    ``flag`` is the option that asked for it, for messages.
    """
    from vivavoce.cli.speaking import lexicon_of
    from vivavoce.text import TextOptions, clauses
    from vivavoce.text.languages import language_code

    if how["ssml"]:
        raise InputError(f"{flag} takes plain text, not SSML.", param="ssml")
    if not (how["normalize"] and settings.text_normalize):
        return text
    language = None if how["language"] in (None, "auto", "Auto") else language_code(how["language"])
    options = TextOptions(language, True, False, lexicon_of(settings, how["lexicon"]))
    return " ".join(clause.text.strip() for clause in clauses(text, options) if clause.spans)


def _engine(settings: Settings, order: CodesOrder) -> Qwen3Engine:
    from vivavoce.engines.qwen3.engine import Qwen3Engine
    from vivavoce.engines.registry import create_engine

    if settings.engine != ENGINE:
        raise InputError(f"--codes needs --engine {ENGINE}.", param="codes")
    options = settings.engine_options
    frames = order.how["options"].get("max_frames") or PROMPT_POSITIONS
    options.setdefault("positions", min(32_768, PROMPT_POSITIONS + frames))
    engine = create_engine(ENGINE, options | {"capacity": 1}, settings.shared_options)
    assert isinstance(engine, Qwen3Engine)
    return engine


def _utterance(engine: Qwen3Engine, settings: Settings, order: CodesOrder) -> Utterance:
    how = order.how
    utterance = Utterance(
        (Span(spoken_text(order.text, how, settings)),),
        wanted_voice(engine, settings, order),
        language=how["language"],
        instructions=how["instructions"],
        sampling=Sampling(seed=how["seed"]),
        options={"guards": False, **how["options"]},
    )
    engine.validate(utterance)
    return utterance


def wanted_voice(engine: Engine, settings: Settings, order: CodesOrder) -> Voice:
    """The voice of the order: of its recording, or by name. Raises VivavoceError."""
    from vivavoce.speech.voices import VoiceLibrary

    if order.reference is not None:
        return engine.clone(order.reference)
    return VoiceLibrary(engine, settings.data_dir / "voices").resolve(order.how["voice"])


def _speak(
    engine: Qwen3Engine, utterance: Utterance, target: AbstractContextManager[Sink]
) -> tuple[np.ndarray, str | None]:
    slot = engine.admit(utterance)
    codes = engine.record(slot)
    with target as sink:
        reason = hear_out(engine, sink)
    return np.array(codes, np.int64).reshape(len(codes), -1), reason


def hear_out(engine: Engine, sink: Sink) -> str | None:
    """Step until the only slot has ended; why it did. Raises the slot's error."""
    while True:
        for piece in engine.step():
            if piece.error is not None:
                raise piece.error
            sink.push(AudioChunk(piece.samples, engine.info.sample_rate_hz))
            if piece.last:
                sink.finish()
                return piece.finish_reason


def write_array(file: Path, values: np.ndarray) -> None:
    """As .npy. Raises InputError where it cannot be written."""
    try:
        with file.open("wb") as opened:
            np.save(opened, values)
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}.") from error
