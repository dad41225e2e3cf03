"""Text to phoneme numbers: espeak-ng's, or plain letters."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence

from vivavoce.engines.piper.voice_files import VoiceConfig
from vivavoce.runtime.espeak import speakable, spoken_clauses
from vivavoce.types import Span

log = logging.getLogger(__name__)

MAX_PART_PHONEMES = 250
"""A longer run is cut at a space: the encoder's time grows faster than the text."""

BOS, EOS, PAD = "^", "$", "_"
SENTENCE_ENDS = ".?!"
MARKS = ",;:" + SENTENCE_ENDS
LEADING_MARKS = re.compile(rf"\s*([{re.escape(MARKS)}]+)\s*")
_SWITCH = re.compile(r"\([^)]+\)")
"""Where espeak-ng goes over to another language, and back."""

_reported: set[str] = set()


def phonemize(spans: Sequence[Span], config: VoiceConfig) -> list[list[str]]:
    """The phonemes of a clause, one list per stretch that is synthesised at once.

    Code points in NFD as Piper's voices were trained on; ``ipa`` of a span is spliced in as it
    is. Nothing speakable gives an empty list. Raises ModelFileError where espeak-ng lacks the
    voice's language, InputError for a text that it dies of.
    """
    sentences: list[list[str]] = [[]]
    for span in spans:
        if span.ipa is not None:
            sentences[-1].extend(_ipa(span, bool(sentences[-1])))
        else:
            _add_text(sentences, span.text, config)
    return [
        part for sentence in sentences for part in _bounded(sentence) if any(map(_voiced, part))
    ]


def phoneme_ids(phonemes: Sequence[str], id_map: Mapping[str, Sequence[int]]) -> list[int]:
    """Numbers of a stretch, with padding between and marks at both ends.

    Symbols the voice does not know are left out, each logged once at DEBUG.
    """
    pad = id_map[PAD]
    ids = [*id_map[BOS], *pad]
    for phoneme in phonemes:
        if phoneme in id_map:
            ids += [*id_map[phoneme], *pad]
        elif phoneme not in _reported:
            _reported.add(phoneme)
            log.debug("The voice has no phoneme %r; it is left out.", phoneme)
    return [*ids, *id_map[EOS]]


def _ipa(span: Span, inside: bool) -> list[str]:
    text = unicodedata.normalize("NFD", span.ipa or "").strip()
    before = " " if inside and span.text[:1].isspace() else ""
    after = " " if span.text[-1:].isspace() else ""
    return list(before + text + after)


def _add_text(sentences: list[list[str]], text: str, config: VoiceConfig) -> None:
    """Append a span of text, going on with the sentence a pronunciation left open."""
    text = speakable(text)
    if config.phoneme_type == "text":
        sentences[-1].extend(unicodedata.normalize("NFD", text))
        return
    if sentences[-1] and (marks := LEADING_MARKS.match(text)):
        # espeak-ng drops punctuation that no word precedes.
        _close(sentences, marks[1][0])
        text = text[marks.end() :]
    if not any(_speakable(char) for char in text):
        if text[-1:].isspace():
            _space(sentences[-1])
        return
    if text[:1].isspace():
        _space(sentences[-1])
    for number, sentence in enumerate(_espeak(text, config)):
        if number:
            sentences.append([])
        sentences[-1].extend(sentence)
    if sentences[-1] and sentences[-1][-1] in SENTENCE_ENDS:
        sentences.append([])
    elif text[-1:].isspace():
        _space(sentences[-1])


def _close(sentences: list[list[str]], mark: str) -> None:
    while sentences[-1][-1:] == [" "]:
        sentences[-1].pop()
    sentences[-1].append(mark)
    if mark in SENTENCE_ENDS:
        sentences.append([])
    else:
        sentences[-1].append(" ")


def _space(sentence: list[str]) -> None:
    if sentence and sentence[-1] != " ":
        sentence.append(" ")


def _speakable(char: str) -> bool:
    return unicodedata.category(char)[0] in "LNS"


def _voiced(phoneme: str) -> bool:
    return phoneme not in MARKS and not phoneme.isspace()


def _espeak(text: str, config: VoiceConfig) -> list[list[str]]:
    """Sentences as Piper's voices were trained on them: marks kept, a space after one inside."""
    sentences: list[list[str]] = []
    sentence: list[str] = []
    for clause in spoken_clauses(text, config.espeak_voice):
        spoken = _SWITCH.sub("", clause.phonemes) + clause.mark
        if clause.mark in (",", ":", ";"):
            spoken += " "
        sentence.extend(unicodedata.normalize("NFD", spoken))
        if clause.ends_sentence:
            sentences.append(sentence)
            sentence = []
    if sentence:
        sentences.append(sentence)
    return [_clustered(each, config.vowel_clusters) for each in sentences]


def _clustered(phonemes: list[str], clusters: Collection[tuple[str, ...]]) -> list[str]:
    """Join neighbors that are one symbol of the voice, the longest first."""
    longest = max(map(len, clusters), default=0)
    joined: list[str] = []
    at = 0
    while at < len(phonemes):
        lengths = range(min(longest, len(phonemes) - at), 1, -1)
        length = next((n for n in lengths if tuple(phonemes[at : at + n]) in clusters), 1)
        joined.append("".join(phonemes[at : at + length]))
        at += length
    return joined


def _bounded(sentence: list[str]) -> Iterator[list[str]]:
    """Cut at the last comma or space before the limit, or at the limit."""
    while len(sentence) > MAX_PART_PHONEMES:
        head = sentence[:MAX_PART_PHONEMES]
        half = MAX_PART_PHONEMES // 2
        at = max((i for i in range(half, len(head)) if head[i] in MARKS), default=0)
        at = at or max((i for i in range(half, len(head)) if head[i] == " "), default=0)
        at = at or MAX_PART_PHONEMES - 1
        yield sentence[: at + 1]
        sentence = sentence[at + 1 :]
    yield sentence
