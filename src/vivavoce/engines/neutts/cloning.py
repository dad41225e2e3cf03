"""From a recording and its transcript to a voice: reference codes."""

from __future__ import annotations

from vivavoce.engines.neutts.backbone import Backbone, Codes
from vivavoce.engines.neutts.codec.stream import CODES_PER_S
from vivavoce.engines.neutts.family import Family
from vivavoce.engines.neutts.loading import can_clone, threads_of
from vivavoce.engines.neutts.models import ENCODER, locate
from vivavoce.engines.neutts.options import NeuTTSOptions, Speakable, models_root
from vivavoce.engines.neutts.prompt import lay_out, spoken_reference
from vivavoce.engines.neutts.voices import ReferenceVoice, cloned_voice
from vivavoce.errors import ContextOverflow, InputError, InvalidAudio, Unsupported
from vivavoce.types import ReferenceAudio, Voice

MIN_S, MAX_S = 1.0, 30.0
SPEECH_ROOM = 5 * CODES_PER_S
"""Tokens that a voice must leave in the context: a short sentence and its speech."""


def clone_voice(
    options: NeuTTSOptions, backbone: Backbone, known: Speakable, reference: ReferenceAudio
) -> Voice:
    """A voice of 1 to 30 s. Safe beside the engine's own thread.

    Raises Unsupported where it cannot be done, InputError without a transcript or where the
    context has no room beside it, InvalidAudio, SetupError.
    """
    _check_possible(options, known.family)
    transcript = (reference.transcript or "").strip()
    if not transcript:
        raise InputError(
            "NeuTTS needs to know what the recording says: send its transcript.", param="ref_text"
        )
    duration_s = len(reference.samples) / reference.sample_rate_hz
    if not MIN_S <= duration_s <= MAX_S:
        raise InvalidAudio(
            f"The recording lasts {duration_s:.1f} s; {MIN_S:g} to {MAX_S:g} s are accepted."
        )
    state = ReferenceVoice(_encode(options, reference), transcript, known.language)
    check_room(backbone, known, state)
    return cloned_voice(state, known.language)


def check_room(backbone: Backbone, known: Speakable, state: ReferenceVoice) -> None:
    """Raise ContextOverflow where a voice leaves no room for speech, InputError where
    its transcript holds nothing to say."""
    reference = spoken_reference(known, state)
    if not reference.text:
        raise InputError("The transcript holds nothing that can be spoken.", param="ref_text")
    tokens = len(lay_out(backbone.vocabulary, reference, "").ids)
    if tokens + SPEECH_ROOM > backbone.context_tokens:
        raise ContextOverflow(tokens + SPEECH_ROOM, backbone.context_tokens)


def _check_possible(options: NeuTTSOptions, family: Family) -> None:
    if family.speakers:
        raise Unsupported("NeuTTS-2E has fixed speakers and cannot clone voices.", param="voice")
    if not can_clone(options, family):
        raise Unsupported(
            "Cloning needs the codec's encoder: the extra 'neutts-torch', and encoder_repo.",
            param="voice",
        )


def _encode(options: NeuTTSOptions, reference: ReferenceAudio) -> Codes:
    """In a process of its own, which gives the encoder's memory back."""
    from vivavoce.engines.neutts.codec.encoder.encode import encode_reference

    root, semantic = models_root(options), options.semantic_repo
    return encode_reference(
        locate(options.encoder_repo, root, ENCODER),
        reference,
        semantic=locate(semantic, root, ENCODER) if semantic else None,
        device=options.encoder_device,
        threads=threads_of(options).codec,
    )
