"""From an utterance to what its rows are given: phonemes or text, prompts, and budgets."""

from __future__ import annotations

from dataclasses import dataclass

from vivavoce.engines.neutts.backbone import Backbone, Codes, Prompt
from vivavoce.engines.neutts.checks import Speakable
from vivavoce.engines.neutts.fitting import Spans, parts_that_fit
from vivavoce.engines.neutts.guards import code_budget, expected_codes
from vivavoce.engines.neutts.manner import Manner, emotion_of
from vivavoce.engines.neutts.phonemes import ESPEAK_VOICES
from vivavoce.engines.neutts.prompt import Reference, lay_out
from vivavoce.engines.neutts.speaking import Part
from vivavoce.engines.neutts.text import plain, spoken_phonemes, wordless
from vivavoce.engines.neutts.voices import ReferenceVoice, reference_of
from vivavoce.errors import EmptyInput
from vivavoce.types import Span, Utterance


@dataclass(frozen=True, slots=True)
class Script:
    """An utterance's parts, in order; none where it asks for silence only."""

    parts: tuple[Part, ...]
    reference_codes: Codes


@dataclass(frozen=True, slots=True)
class _Writer:
    """Lays out parts of one utterance. ``emotion`` is a special token's name."""

    backbone: Backbone
    known: Speakable
    reference: Reference
    emotion: str | None

    def read(self, spans: Spans) -> str:
        """What the model reads for ``spans``."""
        return readable(self.known, spans)

    def prompt(self, spans: Spans) -> Prompt:
        """The prompt for ``spans``."""
        return lay_out(self.backbone.vocabulary, self.reference, self.read(spans), self.emotion)

    def fits(self, spans: Spans) -> bool:
        """Whether the context holds the prompt and a slow reading of it."""
        room = self.backbone.context_tokens - len(self.prompt(spans).ids)
        return room >= expected_codes(_text(spans))

    def part(self, spans: Spans, max_codes: int) -> Part:
        """A row's part of at most ``max_codes``, less where the context is full before."""
        return Part(self.prompt(spans), max_codes)


def write_script(
    backbone: Backbone, known: Speakable, utterance: Utterance, manner: Manner
) -> Script:
    """Parts that each fit the context with the voice's reference.

    Raises EmptyInput where there are words but nothing to say, InputError as the parts' makers do.
    """
    state = reference_of(utterance.voice)
    if wordless(utterance.spans):
        return Script((), state.codes)
    writer = _Writer(
        backbone, known, spoken_reference(known, state), emotion_of(manner, known.family)
    )
    if not writer.read(utterance.spans):
        raise EmptyInput
    pieces = [p for p in parts_that_fit(utterance.spans, writer.fits) if writer.read(p)]
    budgets = _budgets(pieces, utterance.max_audio_s, manner)
    parts = [writer.part(each, most) for each, most in zip(pieces, budgets, strict=True)]
    return Script(tuple(part for part in parts if part.max_codes > 0), state.codes)


def readable(known: Speakable, spans: Spans) -> str:
    """What the model reads: phonemes, or text. Empty where nothing is spoken."""
    if known.family.layout == "phonemes":
        return spoken_phonemes(spans, known.language)
    return plain(_text(spans))


def spoken_reference(known: Speakable, state: ReferenceVoice) -> Reference:
    """A voice's reference as the model reads it: its transcript in its own language."""
    if not len(state.codes):
        return Reference()
    language = state.language if state.language in ESPEAK_VOICES else known.language
    spoken = Speakable(known.family, language, ())
    return Reference(readable(spoken, (Span(state.transcript),)), state.codes)


def _budgets(pieces: list[Spans], max_audio_s: float | None, manner: Manner) -> list[int]:
    """The most codes of each part; ``max_audio_s`` and ``max_codes`` are for all together."""
    left = manner.max_codes
    if left is None and max_audio_s is not None:
        left = code_budget(" ".join(map(_text, pieces)), max_audio_s)
    budgets = []
    for spans in pieces:
        own = code_budget(_text(spans)) if manner.max_codes is None else manner.max_codes
        most = own if left is None else min(own, left)
        left = None if left is None else left - most
        budgets.append(most)
    return budgets


def _text(spans: Spans) -> str:
    return "".join(span.text for span in spans)
