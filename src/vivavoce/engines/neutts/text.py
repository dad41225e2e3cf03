"""A normalized text made into what the models were trained to read.

Their training kept only texts that end in a full stop, comma, question or exclamation mark, and
that hold no dotted acronyms.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from vivavoce.engines.neutts.phonemes import phonemes
from vivavoce.text.sanitize import defuse
from vivavoce.types import Span

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
    parts = [_part(span, language) for span in spans]
    joined = " ".join(" ".join(parts).split())
    joined = re.sub(r"\s+([.,?!;:])", r"\1", joined)
    return with_end(joined) if any(map(str.isalpha, joined)) else ""


def wordless(spans: Sequence[Span]) -> bool:
    """Whether a text holds marks only, so that silence is all it asks for."""
    return not any(
        span.ipa or any(unicodedata.category(char)[0] in "LNS" for char in span.text)
        for span in spans
    )


def _part(span: Span, language: str) -> str:
    if span.ipa is not None:
        return defuse(span.ipa)
    text = " ".join(defuse(span.text).split())
    return phonemes(text, language) or "".join(char for char in text if char in ENDS)


def _spelled(found: re.Match[str]) -> str:
    """U.S.A. to USA, which espeak-ng spells; a final stop stays at the end of the text."""
    letters = found[0].strip().replace(".", "")
    ended = found["tail"] is not None and found["open"] is None
    return letters + "." if ended else letters
