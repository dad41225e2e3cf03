"""A request that can be spoken: what is checked before it may take a slot.

All of this takes a moment, whatever the text is: nothing is read of it but its length. What the
text holds is found out once the request has a slot or a place in the queue.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from vivavoce.engines.base import Engine, EngineInfo
from vivavoce.errors import EmptyInput, InputError, InputTooLong, Unsupported, shown
from vivavoce.speech.cache import Key, cache_key
from vivavoce.text.duration import max_duration_s
from vivavoce.text.languages import language_code
from vivavoce.text.lexicon import Lexicon, check_count, entries_digest
from vivavoce.text.style import style_room
from vivavoce.types import Clause, Priority, SpeechRequest, Timings, Utterance, Voice

BATCH_PATIENCE_S = 60.0
"""How much later than real-time requests a batch request may be served inside the engine."""

MIN_SPEED, MAX_SPEED = 0.25, 4.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that has passed validation: as whom to speak, and what is ignored.

    ``voice`` is None for a request with a reference recording until it is cloned. ``group_s`` is
    how much of the text may be one utterance, in seconds of speech; 0: a clause.
    """

    request: SpeechRequest
    voice: Voice | None
    language: str | None
    ignored: tuple[str, ...]
    timings: Timings
    group_s: float = 0.0


def prepare(
    request: SpeechRequest,
    engine: Engine,
    voice_of: Callable[[str | None], Voice],
    *,
    max_input_chars: int,
    arrived_s: float,
) -> Prepared:
    """A request that ``engine`` can speak, as the voice it names or as its recording.

    ``arrived_s`` is a time of the monotonic clock. Raises InputError, also by ``voice_of``.
    """
    if len(request.text) > max_input_chars:
        raise InputTooLong(len(request.text), max_input_chars)
    if not request.text or request.text.isspace():
        raise EmptyInput
    if not MIN_SPEED <= request.speed <= MAX_SPEED:
        raise InputError(f"speed must be between {MIN_SPEED} and {MAX_SPEED}.", param="speed")
    check_count(request.lexicon)
    if request.reference is not None and not engine.info.capabilities.cloning:
        raise Unsupported(f"The engine {engine.info.name!r} cannot clone voices.", param="voice")
    voice = None if request.reference is not None else voice_of(request.voice)
    language = _language(request, voice, engine.info)
    timings = Timings(characters=len(request.text), arrived_s=arrived_s)
    ignored, group_s = _ignored(request, engine.info), group_seconds(request, engine.info)
    ready = Prepared(request, voice, language, ignored, timings, group_s)
    if voice is not None:
        engine.validate(utterance_of(ready, voice, Clause(()), 0.0, engine))
    return ready


def key_of(prepared: Prepared, lexicon: Lexicon) -> Key | None:
    """What its sound is remembered under; None where its voice has no name to be known by.

    ``lexicon`` is the server's. Raises InputError for a lexicon that holds other than text.
    """
    if prepared.voice is None:
        return None
    digest = lexicon.digest
    if prepared.request.lexicon:
        digest += entries_digest(prepared.request.lexicon)
    grouped = prepared.group_s > 0
    return cache_key(prepared.request, prepared.voice, prepared.language, digest, grouped=grouped)


def group_seconds(request: SpeechRequest, info: EngineInfo) -> float:
    """How much of a text may be one utterance, in seconds of speech; 0: a clause.

    A clause at a time where sound is to leave so, and where the request bounds the length of an
    utterance itself.
    """
    if request.stream_mode == "sentence" or bounds_itself(request, info):
        return 0.0
    return info.text.group_s


def bounds_itself(request: SpeechRequest, info: EngineInfo) -> bool:
    """Whether a request says how long an utterance may be, in the engine's own way."""
    return info.own_length_option in request.options


def utterance_of(
    prepared: Prepared, voice: Voice, clause: Clause, deadline_s: float, engine: Engine
) -> Utterance:
    """How an engine is asked for one clause: without what it has no use for."""
    request, can = prepared.request, engine.info.capabilities
    speed = request.speed if can.speed else 1.0
    sampling = (
        request.sampling
        if can.sampling
        else replace(request.sampling, temperature=None, top_p=None)
    )
    patience_s = BATCH_PATIENCE_S if request.priority is Priority.BATCH else 0.0
    instructions = request.instructions if can.instructions else None
    longest_s = max_duration_s(_longest_reading(clause), speed, prepared.language)
    utterance = Utterance(
        spans=clause.spans,
        voice=voice,
        language=prepared.language,
        speed=speed,
        instructions=instructions,
        sampling=sampling if can.seed else replace(sampling, seed=None),
        deadline_s=deadline_s + patience_s,
        max_audio_s=longest_s * style_room(instructions),
        bounds_itself=bounds_itself(request, engine.info),
        options=request.options,
    )
    return replace(utterance, max_audio_s=engine.longest_audio_s(utterance))


def _longest_reading(clause: Clause) -> str:
    """What may be said: the text, or a pronunciation where that is longer."""
    return "".join(
        span.ipa if span.ipa and len(span.ipa) > len(span.text) else span.text
        for span in clause.spans
    )


def _language(request: SpeechRequest, voice: Voice | None, info: EngineInfo) -> str | None:
    """ISO 639-1 of what is spoken; the voice's own where none is asked for."""
    tags = (voice.languages if voice is not None else ()) or info.languages
    own = sorted({language_code(tag) for tag in tags})
    if request.language is None or request.language.lower() == "auto":
        return own[0] if len(own) == 1 else None
    code = language_code(request.language)
    if own and code not in own:
        spoken = ", ".join(own)
        raise Unsupported(
            f"The voice does not speak {shown(request.language)}; it speaks {spoken}.",
            param="language",
        )
    return code


def _ignored(request: SpeechRequest, info: EngineInfo) -> tuple[str, ...]:
    can, sampling = info.capabilities, request.sampling
    given = {
        "instructions": bool(request.instructions) and not can.instructions,
        "temperature": sampling.temperature is not None and not can.sampling,
        "top_p": sampling.top_p is not None and not can.sampling,
        "seed": sampling.seed is not None and not can.seed,
    }
    return tuple(name for name, unused in given.items() if unused)
