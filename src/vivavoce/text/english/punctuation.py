"""The last pass: pauses, repeated marks, brackets, stray characters, spaces."""

from __future__ import annotations

import re
import unicodedata

from vivavoce.text.english.markup import SOFT

_PLURAL_S = re.compile(r"(?<=\w)\((e?s)\)")
_BRACKETS = re.compile(r"[()\[\]{}⟨⟩]")
_DASHES = re.compile(r"--+|(?<=\s)-(?=\s)|(?<=\s)-$|^-(?=\s)")
_LOOSE_HYPHEN = re.compile(r"-(?:(?<![^\W_]-)|(?![^\W_]))")
_STRAY = re.compile(rf"[^\w\s,.?!:;'\"{SOFT}-]|_")
_SOFT_RUN = re.compile(rf"(?<!\s)\s*+{SOFT}[\s{SOFT}]*+")
_SPACE_BEFORE = re.compile(r"\s(?<!\s\s)\s*+(?=[,;:?!]|\.(?![^\W_]))")
_ENDS = re.compile(r"[.?!,;:](?:\s*[.?!,;:])+")
_NO_SPACE_AFTER = re.compile(r"(?:[,;:?!](?<=[^\W_].)|\.(?<=[^\W\d_]{2}\.)(?=[A-Z]))(?=[^\W\d_])")
_LEADING = re.compile(r"^[\s,.;:?!-]+")
_EMPTY_QUOTES = re.compile(r'"[\s,.;:]*"')


def _soft(found: re.Match[str]) -> str:
    text = found.string
    left, right = text[: found.start()][-1:], text[found.end() : found.end() + 1]
    if (left.isalnum() or left in "'\"") and (right.isalnum() or right == '"') and left:
        return ", "
    return " "


def _one_mark(found: re.Match[str]) -> str:
    """The mark that a run of marks stands for: "?!" asks, "..." within a sentence waits."""
    marks = found[0]
    if "?" in marks:
        return "?"
    if "!" in marks:
        return "!"
    at_end = found.end() == len(found.string) or not found.string[found.end() :].strip(" \"'")
    if at_end and "." in marks:
        return "."
    return ";" if ";" in marks else ":" if ":" in marks and "." not in marks else ","


def _stray(found: re.Match[str]) -> str:
    char = found[0]
    return char if unicodedata.category(char)[0] == "M" else " "


def tidy(text: str) -> str:
    """Only words, ``, . ? ! : ;``, quotes, apostrophes and hyphens remain; "" if no word does."""
    text = _BRACKETS.sub(SOFT, _PLURAL_S.sub(r"\1", text))
    if "-" in text:
        text = _LOOSE_HYPHEN.sub(" ", _DASHES.sub(SOFT, text))
    text = _STRAY.sub(_stray, text)
    if SOFT in text:
        text = _SOFT_RUN.sub(_soft, text)
    text = _EMPTY_QUOTES.sub("", text)
    text = _ENDS.sub(_one_mark, _SPACE_BEFORE.sub("", text))
    text = _LEADING.sub("", _NO_SPACE_AFTER.sub(r"\g<0> ", text))
    if not any(map(str.isalnum, text)):
        return ""
    return " ".join(text.split())
