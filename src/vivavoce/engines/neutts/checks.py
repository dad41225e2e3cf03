"""What a model can be asked for: refusals before a slot is taken."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vivavoce.engines.neutts.family import Family
from vivavoce.engines.neutts.manner import RequestOptions, emotion_of, request_options_of
from vivavoce.engines.neutts.options import NeuTTSOptions
from vivavoce.engines.neutts.voices import builtin_voices, default_first, reference_of
from vivavoce.errors import InputError, SetupError, UnknownVoice, Unsupported
from vivavoce.text.languages import language_code
from vivavoce.types import Utterance, Voice

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Speakable:
    """What is loaded (or will be): model, the language it speaks (ISO 639-1), its own voices."""

    family: Family
    language: str
    voices: tuple[Voice, ...]


def with_voices(known: Speakable, options: NeuTTSOptions, *, strict: bool) -> Speakable:
    """``known`` with the voices of the options; unless ``strict``, faults give "nobody".

    Raises SetupError where ``strict``.
    """
    try:
        found = builtin_voices(known.family, options.voices_dir, known.language)
        return replace(known, voices=default_first(found, options.voice))
    except SetupError:
        if strict:
            raise
        return replace(known, voices=builtin_voices(known.family, None, known.language))


def check_utterance(known: Speakable, utterance: Utterance) -> RequestOptions:
    """Its options. Raises InputError for what cannot be spoken."""
    request = request_options_of(utterance)
    emotion_of(request, known.family)
    check_language(known, utterance.language)
    if (utterance.instructions or "").strip():
        raise Unsupported("NeuTTS models take no instructions.", param="instructions")
    if utterance.text_open:
        raise Unsupported("NeuTTS models take whole texts only.", param="input")
    own = {voice.id for voice in known.voices}
    if utterance.voice.data is None and utterance.voice.id not in own:
        raise UnknownVoice(utterance.voice.id, own)
    reference_of(utterance.voice)
    if known.family.speakers and utterance.voice.kind == "cloned":
        raise Unsupported("NeuTTS-2E speaks as its own speakers only.", param="voice")
    return request


def check_language(known: Speakable, language: str | None) -> None:
    """Raise InputError for a language this model does not speak."""
    if language is None or language.strip().lower() == AUTO:
        return
    code = language_code(language)
    if code != known.language:
        raise InputError(
            f"This model speaks {known.language!r}, not {code!r}; each NeuTTS model speaks one "
            "language.",
            param="language",
        )
