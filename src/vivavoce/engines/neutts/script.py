"""From an utterance to what its rows are given: phonemes or text, prompts, and budgets."""

from __future__ import annotations

from dataclasses import dataclass, field

from vivavoce.engines.neutts.backbone import Backbone, Codes, Prompt
from vivavoce.engines.neutts.checks import Speakable
from vivavoce.engines.neutts.fitting import Spans, parts_that_fit
from vivavoce.engines.neutts.guards import code_budget, expected_codes
from vivavoce.engines.neutts.manner import RequestOptions, emotion_of
from vivavoce.engines.neutts.phonemes import ESPEAK_VOICES
from vivavoce.engines.neutts.prompt import Reference, lay_out
from vivavoce.engines.neutts.speaking import Part
from vivavoce.engines.neutts.text import plain, spoken_phonemes, wordless
from vivavoce.engines.neutts.voices import ReferenceVoice, reference_of
from vivavoce.errors import EmptyInput
from vivavoce.types import Span, Utterance


@dataclass(frozen=True, slots=True)
class Script:
    """An utterance's parts, in order; none where it asks for silence only.

    ``most_codes`` is the most that all parts together may take.
    """

    parts: tuple[Part, ...]
    reference_codes: Codes
    most_codes: int


@dataclass(frozen=True, slots=True)
class _Writer:
    """Lays out parts of one utterance. ``emotion`` is a special token's name."""

    backbone: Backbone
    known: Speakable
    reference: Reference
    emotion: str | None
    laid: dict[Spans, Prompt] = field(default_factory=dict)

    def read(self, spans: Spans) -> str:
        """What the model reads for ``spans``."""
        return readable(self.known, spans)

    def prompt(self, spans: Spans) -> Prompt:
        """The prompt for ``spans``, laid out once."""
        if spans not in self.laid:
            words = self.backbone.vocabulary
            self.laid[spans] = lay_out(words, self.reference, self.read(spans), self.emotion)
        return self.laid[spans]

    def fits(self, spans: Spans) -> bool:
        """Whether the context holds the prompt and a slow reading of it."""
        room = self.backbone.context_tokens - len(self.prompt(spans).ids)
        return room >= expected_codes(_text(spans))

    def part(self, spans: Spans, max_codes: int | None) -> Part:
        """A row's part of at most ``max_codes``; None is what its text may take."""
        return Part(self.prompt(spans), max_codes or code_budget(_text(spans)))


def write_script(
    backbone: Backbone, known: Speakable, utterance: Utterance, request: RequestOptions
) -> Script:
    """Parts that each fit the context with the voice's reference.

    Raises EmptyInput where there are words but nothing to say, InputError as the parts' makers do.
    """
    state = reference_of(utterance.voice)
    if wordless(utterance.spans):
        return Script((), state.codes, 0)
    writer = _Writer(
        backbone, known, spoken_reference(known, state), emotion_of(request, known.family)
    )
    if not writer.read(utterance.spans):
        raise EmptyInput
    pieces = [p for p in parts_that_fit(utterance.spans, writer.fits) if writer.read(p)]
    parts = tuple(writer.part(each, request.max_codes) for each in pieces)
    most = request.max_codes or sum(part.max_codes for part in parts)
    if request.max_codes is None and utterance.max_audio_s is not None:
        most = min(most, code_budget(_text(utterance.spans), utterance.max_audio_s))
    return Script(parts, state.codes, most)


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


def _text(spans: Spans) -> str:
    return "".join(span.text for span in spans)
