"""Make any text harmless: no control characters, no model control tokens, no mark floods.

What is left means the same to a reader. Works on a whole text as well as on any part of it that
ends at whitespace.
"""

from __future__ import annotations

import re
import unicodedata

MAX_MARKS = 4
"""Combining marks kept on one base character; living scripts stack at most three or four."""

_NEWLINES = re.compile("\r\n?|[\x0b\x0c\x85\u2028]")
_INDIC_OR_ARABIC = "[\u0600-\u06ff\u0750-\u077f\u0900-\u0dff]"
_PICTURE = "[\u2190-\u2bff\ufe0f\u3030\u303d\U0001f000-\U0001faff]"
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e"
    "\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff"
    "\ud800-\udfff\ue000-\uf8ff\U000e0000-\U000e0fff\U000f0000-\U0010ffff]"
    # Joiners mean something between letters of these scripts, and inside emoji sequences.
    f"|(?<!{_INDIC_OR_ARABIC})\u200c|\u200c(?!{_INDIC_OR_ARABIC})"
    f"|(?<!{_INDIC_OR_ARABIC})(?<!{_PICTURE})\u200d"
    f"|\u200d(?!{_INDIC_OR_ARABIC}|{_PICTURE})"
)
_SURROGATE_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_MARK_RUN = re.compile(rf"[^\w\s\x00-\x7f]{{{MAX_MARKS + 1},}}")
_TOKEN = re.compile(
    r"<[|｜][^\s<>|｜]{0,80}[|｜]>"
    r"|</?(?:s|pad|unk|bos|eos|mask|cls|sep|think|[a-z]{1,24}(?:_[a-z0-9]{1,24}){1,6})>"
    r"|<</?sys>>"
    r"|\[/?(?:inst|sys|pad|unk|bos|eos|mask|cls|sep|[a-z]{1,24}(?:_[a-z0-9]{1,24}){1,6})\]"
    r"|<[|｜]|[|｜]>",
    re.IGNORECASE,
)


def sanitize(text: str) -> str:
    """Return ``text`` in NFC without anything that could act on a model or terminal.

    Control, bidirectional, zero-width and private-use characters and lone surrogates go; other
    line ends become newlines; control tokens of language models become a space.
    """
    if text.isascii():
        return defuse(_drop_invisible(text))
    text = _bound_marks(_drop_invisible(text))
    # A few marks decompose into two, so the bound is checked again after NFC.
    return defuse(_bound_marks(unicodedata.normalize("NFC", text)))


def drop_controls(text: str) -> str:
    """The part of ``sanitize`` that leaves markup alone: invisible characters and line ends."""
    return _drop_invisible(text)


def defuse(text: str) -> str:
    """Take model control tokens (``<|…|>``, ``<s>``, ``[INST]``, ``<tts_pad>``) out of a text.

    A space stays for them, except before a space or punctuation: what stood around a token must
    not join into another one.
    """
    if "<" not in text and "[" not in text and ">" not in text:
        return text
    return _TOKEN.sub(_gap, text)


def _gap(token: re.Match[str]) -> str:
    follower = token.string[token.end() : token.end() + 1]
    return "" if follower == "" or follower in " \n.,;:!?" else " "


def _drop_invisible(text: str) -> str:
    text = _NEWLINES.sub("\n", text).replace("\u2029", "\n\n")
    text = _SURROGATE_PAIR.sub(
        lambda pair: pair[0].encode("utf-16-le", "surrogatepass").decode("utf-16-le"), text
    )
    return _INVISIBLE.sub("", text)


def _bound_marks(text: str) -> str:
    return _MARK_RUN.sub(_bound_run, text)


def _bound_run(run: re.Match[str]) -> str:
    kept: list[str] = []
    marks = 0
    for character in run[0]:
        marks = marks + 1 if unicodedata.category(character)[0] == "M" else 0
        if marks <= MAX_MARKS:
            kept.append(character)
    return "".join(kept)
