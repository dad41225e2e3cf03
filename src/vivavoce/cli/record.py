"""``vivavoce say --codes``: one utterance straight through the engine, and its codes in a file.

For checking the model: the text is not segmented, nothing watches for silence or loops, and the
sound is what the codec gives. Codes are those of frames (int64, frames × codebooks) or the numbers
of speech tokens (int64, tokens), as the engine has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import typer

from vivavoce.errors import InputError
from vivavoce.types import AudioChunk, ReferenceAudio, Span, SpeechRequest, Utterance, Voice

if TYPE_CHECKING:
    from vivavoce.cli.outputs import Output, Target
    from vivavoce.engines.base import Engine
    from vivavoce.settings import Settings
    from vivavoce.text import Lexicon

PROMPT_POSITIONS = 1024
"""Room for the prompt beside the frames that were asked for."""
MAX_POSITIONS = 32_768


@dataclass(frozen=True, slots=True)
class RecordOrder:
    """What to say and how, and the .npy file for the codes, which the option ``flag`` named."""

    request: SpeechRequest
    file: Path
    flag: str
    lexicon: Lexicon


def record(settings: Settings, order: RecordOrder, target: Target) -> None:
    """Speak it into ``target`` and write the codes. Raises VivavoceError."""
    from vivavoce.engines.registry import recorded_unit, recording_engines

    unit = recorded_unit(settings.engine)
    if not unit:
        able = " or ".join(f"--engine {name}" for name in recording_engines())
        raise InputError(f"{order.flag} needs {able}.", param=order.flag.strip("-"))
    engine = _engine(settings, order.request)
    engine.load()
    try:
        slot = engine.admit(_utterance(engine, settings, order))
        codes = engine.record(slot)
        with target.open(engine.info.sample_rate_hz) as output:
            reason = _hear_out(engine, output)
    finally:
        engine.unload()
    _write(order.file, np.array(codes, np.int64))
    if reason == "length":
        typer.echo(f"vivavoce: cut at {len(codes)} {unit}", err=True)


def _engine(settings: Settings, request: SpeechRequest) -> Engine:
    """With one row, which has room for the frames that were asked for."""
    from vivavoce.engines.registry import create_engine, known_options

    frames = request.options.get("max_frames") or PROMPT_POSITIONS
    room = {"positions": min(MAX_POSITIONS, PROMPT_POSITIONS + frames)}
    options = known_options(settings.engine, room) | settings.engine_options | {"capacity": 1}
    return create_engine(settings.engine, options, settings.shared_options)


def _utterance(engine: Engine, settings: Settings, order: RecordOrder) -> Utterance:
    request = order.request
    utterance = Utterance(
        (Span(_spoken_text(settings, order)),),
        _voice(engine, settings, request),
        language=request.language,
        instructions=request.instructions,
        sampling=request.sampling,
        options={"guards": False, **request.options},
    )
    engine.validate(utterance)
    return utterance


def _spoken_text(settings: Settings, order: RecordOrder) -> str:
    """The text in one piece, normalized unless the request or the settings say no."""
    from vivavoce.text import TextOptions, clauses
    from vivavoce.text.languages import language_code

    request = order.request
    if request.ssml:
        raise InputError(f"{order.flag} takes plain text, not SSML.", param="ssml")
    if not (request.normalize and settings.text_normalize):
        return request.text
    automatic = request.language is None or request.language.lower() == "auto"
    language = None if automatic else language_code(str(request.language))
    options = TextOptions(language, True, False, order.lexicon)
    found = clauses(request.text, options)
    return " ".join(clause.text.strip() for clause in found if clause.spans)


def _voice(engine: Engine, settings: Settings, request: SpeechRequest) -> Voice:
    """The voice of the request: of its recording, or by name. Raises VivavoceError."""
    from vivavoce.speech.voices import VoiceLibrary

    if isinstance(request.reference, ReferenceAudio):
        return engine.clone(request.reference)
    return VoiceLibrary(engine, settings.data_dir / "voices").resolve(request.voice)


def _hear_out(engine: Engine, output: Output) -> str | None:
    """Step until the only slot has ended; why it did. Raises the slot's error."""
    while True:
        for piece in engine.step():
            if piece.error is not None:
                raise piece.error
            output.push(AudioChunk(piece.samples, engine.info.sample_rate_hz))
            if piece.last:
                output.finish()
                return piece.finish_reason


def _write(file: Path, values: np.ndarray) -> None:
    """As .npy. Raises InputError where it cannot be written."""
    try:
        with file.open("wb") as opened:
            np.save(opened, values)
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}.") from error
