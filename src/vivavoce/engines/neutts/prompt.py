"""What a row is given to speak: phonemes or text, in parts that fit, each a prompt with a budget.

Phonemes or text as the models were trained to read them: their training kept only texts that end in
a full stop, comma, question or exclamation mark, and that hold no dotted acronyms. A clause that is
too long for the context is spoken in parts, cut where it hurts least.

A prompt is ``header  reference text  [emotion]  text  middle  reference codes``, all as ids: the
65,536 speech tokens are never searched for in a string. The text comes before the reference codes,
so only header and reference text are the same for every text of a voice.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from vivavoce.engines.neutts.backbone import Backbone, Codes, Prompt, Vocabulary
from vivavoce.engines.neutts.options import RequestOptions, Speakable, emotion_of
from vivavoce.engines.neutts.phonemes import ESPEAK_VOICES, phonemes
from vivavoce.engines.neutts.utterance import Segment, code_budget, expected_codes
from vivavoce.engines.neutts.voices import ReferenceVoice, reference_of
from vivavoce.errors import EmptyInput, ModelFileError
from vivavoce.text.sanitize import defuse
from vivavoce.types import Span, Utterance

ENDS = ".,?!"
"""What a trained text ends in."""

CLOSERS = "\"'”’»)]}"
_ACRONYM = re.compile(r"\b(?:[A-ZÀ-ÖØ-Þ]\.){2,}(?P<open>[A-ZÀ-ÖØ-Þ]\b)?(?P<tail>\s*$)?")
_WEAK_END = re.compile(r"[\s;:—–-]+$")
_ASCII_QUOTES = str.maketrans("‘’‚‛“”„‟«»", '\'\'\'\'""""""')


def clean(text: str) -> str:
    """``text`` without control tokens, with single spaces, and with a final mark.

    Empty where there is nothing but whitespace.
    """
    text = " ".join(defuse(text).split())
    return with_end(_ACRONYM.sub(_spelled, text)) if text else ""


def with_end(text: str) -> str:
    """``text`` with a final mark of those the models know; weak ones become a comma."""
    bare = text.rstrip(CLOSERS + " ")
    if not bare or bare[-1] in ENDS:
        return text
    if bare[-1] == "…":
        return bare[:-1] + "."
    if _WEAK_END.search(bare) and bare == text:
        stripped = _WEAK_END.sub("", bare)
        return stripped + "," if stripped else text
    return text + "."


def plain(text: str) -> str:
    """What 2E reads: NFKC, ASCII quotes, no control tokens, a final mark."""
    folded = unicodedata.normalize("NFKC", text.translate(_ASCII_QUOTES))
    return clean(folded.translate(_ASCII_QUOTES))


def spoken_phonemes(spans: Sequence[Span], language: str) -> str:
    """What Air and Nano read; empty where nothing is spoken. ``ipa`` of a span is taken as it is.

    Raises InputError for a language without phonemes.
    """
    if all(span.ipa is None for span in spans):
        return phonemes(clean("".join(span.text for span in spans)), language)
    parts = [_spoken(span, language) for span in spans]
    joined = " ".join(" ".join(parts).split())
    joined = re.sub(r"\s+([.,?!;:])", r"\1", joined)
    return with_end(joined) if any(map(str.isalpha, joined)) else ""


def wordless(spans: Sequence[Span]) -> bool:
    """Whether a text holds marks only, so that silence is all it asks for."""
    return not any(
        span.ipa or any(unicodedata.category(char)[0] in "LNS" for char in span.text)
        for span in spans
    )


def _spoken(span: Span, language: str) -> str:
    if span.ipa is not None:
        return defuse(span.ipa)
    text = " ".join(defuse(span.text).split())
    return phonemes(text, language) or "".join(char for char in text if char in ENDS)


def _spelled(found: re.Match[str]) -> str:
    """U.S.A. to USA, which espeak-ng spells; a final stop stays at the end of the text."""
    letters = found[0].strip().replace(".", "")
    ended = found["tail"] is not None and found["open"] is None
    return letters + "." if ended else letters


Spans: TypeAlias = tuple[Span, ...]

_CUTS = tuple(
    re.compile(pattern) for pattern in (r"[.!?…]+[\"'”’»)\]]*\s+", r"[;:—–]+\s+|,\s+", r"\s+")
)
"""Where a text may be cut, the best kinds first; after the match."""

REACH = 0.5
"""A cut of a better kind is taken where it leaves at least this share of half a text."""


def parts_that_fit(spans: Sequence[Span], fits: Callable[[Spans], bool]) -> list[Spans]:
    """``spans`` in as few halvings as needed; a word that does not fit stays as it is."""
    whole = tuple(spans)
    if fits(whole):
        return [whole]
    at = _best_cut(whole)
    if at is None:
        return [whole]
    return [part for half in _cut(whole, at) for part in parts_that_fit(half, fits)]


def _best_cut(spans: Spans) -> int | None:
    """The offset in the joined text nearest to its middle, of the best kind that is near it."""
    text = "".join(span.text for span in spans)
    free = [at for at in range(len(text)) if text[at].isspace()]
    if not free:
        return None
    middle = len(text) / 2
    for kind in _CUTS:
        ends = [at for at in _ends(kind, text, spans) if 0 < at < len(text)]
        if not ends:
            continue
        nearest = min(ends, key=lambda at: abs(at - middle))
        if abs(nearest - middle) <= middle * REACH or kind is _CUTS[-1]:
            return nearest
    return None


def _ends(kind: re.Pattern[str], text: str, spans: Spans) -> Iterator[int]:
    """Where a kind's matches end, outside of given pronunciations."""
    taken, start = [], 0
    for span in spans:
        stop = start + len(span.text)
        if span.ipa is not None:
            taken.append((start, stop))
        start = stop
    for found in kind.finditer(text):
        at = found.end()
        if not any(start < at < stop for start, stop in taken):
            yield at


def _cut(spans: Spans, at: int) -> tuple[Spans, Spans]:
    before: list[Span] = []
    after: list[Span] = []
    start = 0
    for span in spans:
        stop = start + len(span.text)
        if stop <= at:
            before.append(span)
        elif start >= at:
            after.append(span)
        else:
            before.append(Span(span.text[: at - start]))
            after.append(Span(span.text[at - start :]))
        start = stop
    return tuple(before), tuple(after)


@dataclass(frozen=True, slots=True)
class Reference:
    """What the voice said, as the model reads it (phonemes or text), and its codes (T,) int32."""

    text: str = ""
    codes: Codes = field(default_factory=lambda: np.zeros(0, np.int32))


def lay_out(
    vocabulary: Vocabulary, reference: Reference, text: str, emotion: str | None = None
) -> Prompt:
    """The prompt for ``text``; ``emotion`` is a special token's name that takes a space's place.

    Reference and text are tokenized as one string, as in training. ``shared_prefix`` covers the
    header, and the reference text where its own tokens begin that string's.
    Raises ModelFileError for a token the model lacks, InputError for codes out of range.
    """
    header = vocabulary.header_ids
    own = vocabulary.tokenize(reference.text) if reference.text else ()
    said = _said(vocabulary, own, reference.text, text, emotion)
    shared = len(header) + len(own) if said[: len(own)] == own else len(header)
    codes = vocabulary.speech_ids(reference.codes)
    return Prompt((*header, *said, *vocabulary.middle_ids, *codes), shared)


def _said(
    vocabulary: Vocabulary, own: tuple[int, ...], before: str, text: str, emotion: str | None
) -> tuple[int, ...]:
    if emotion is not None:
        token = vocabulary.token_id(emotion)
        if token is None:
            raise ModelFileError(f"The model has no token {emotion}.")
        return (*own, token, *vocabulary.tokenize(text))
    return vocabulary.tokenize(f"{before} {text}" if before else text)


@dataclass(frozen=True, slots=True)
class PromptInputs:
    """An utterance's segments, in order; none where it asks for silence only.

    ``most_codes`` is the most that all segments together may take.
    """

    segments: tuple[Segment, ...]
    reference_codes: Codes
    most_codes: int


@dataclass(frozen=True, slots=True)
class _Writer:
    """Lays out segments of one utterance. ``emotion`` is a special token's name."""

    backbone: Backbone
    known: Speakable
    reference: Reference
    emotion: str | None
    prompts: dict[Spans, Prompt] = field(default_factory=dict)

    def read(self, spans: Spans) -> str:
        """What the model reads for ``spans``."""
        return readable(self.known, spans)

    def prompt(self, spans: Spans) -> Prompt:
        """The prompt for ``spans``, laid out once."""
        if spans not in self.prompts:
            words = self.backbone.vocabulary
            self.prompts[spans] = lay_out(words, self.reference, self.read(spans), self.emotion)
        return self.prompts[spans]

    def fits(self, spans: Spans) -> bool:
        """Whether the context holds the prompt and a slow reading of it."""
        room = self.backbone.context_tokens - len(self.prompt(spans).ids)
        return room >= expected_codes(_text(spans))

    def segment(self, spans: Spans, max_codes: int | None) -> Segment:
        """A row's segment of at most ``max_codes``; None is what its text may take."""
        return Segment(self.prompt(spans), max_codes or code_budget(_text(spans)))


def prompt_inputs(
    backbone: Backbone, known: Speakable, utterance: Utterance, request: RequestOptions
) -> PromptInputs:
    """Segments that each fit the context with the voice's reference.

    Raises EmptyInput where there are words but nothing to say, InputError for a text or
    a voice that cannot be spoken.
    """
    state = reference_of(utterance.voice)
    if wordless(utterance.spans):
        return PromptInputs((), state.codes, 0)
    writer = _Writer(
        backbone, known, spoken_reference(known, state), emotion_of(request, known.family)
    )
    if not writer.read(utterance.spans):
        raise EmptyInput
    pieces = [p for p in parts_that_fit(utterance.spans, writer.fits) if writer.read(p)]
    segments = tuple(writer.segment(each, request.max_codes) for each in pieces)
    most = request.max_codes or sum(segment.max_codes for segment in segments)
    if request.max_codes is None and utterance.max_audio_s is not None:
        most = min(most, code_budget(_text(utterance.spans), utterance.max_audio_s))
    return PromptInputs(segments, state.codes, most)


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
