"""A small part of SSML 1.1 (https://www.w3.org/TR/speech-synthesis11/).

Understood: ``speak``, ``p``, ``s``, ``break``, ``sub``, ``phoneme`` (IPA) and ``say-as``. Anything
else is refused by name rather than silently ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias
from xml.parsers import expat

from vivavoce.errors import InputError, shown
from vivavoce.text.sanitize import drop_controls, sanitize
from vivavoce.types import ClauseEnd

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SYMBOLS = {
    "@": "at",
    ".": "dot",
    "-": "dash",
    "–": "dash",
    "_": "underscore",
    "/": "slash",
    "\\": "backslash",
    "+": "plus",
    "*": "star",
    "#": "hash",
    "&": "and",
    "%": "percent",
    "$": "dollar",
    "€": "euro",
    "£": "pound",
    "=": "equals",
    ":": "colon",
    ",": "comma",
    "?": "question mark",
    "!": "exclamation mark",
    "'": "apostrophe",
    "(": "open bracket",
    ")": "close bracket",
}
_GROUP = re.compile(r"[^\W_]+")
_TELEPHONE_GROUP = re.compile(r"\+|[*#]|(?:ext|x)(?=[\s.]*\d)|[^\W_]+", re.IGNORECASE)
_LETTER_A = re.compile(r"\bA(?= )")
_EXTENSION = frozenset(("ext", "x", "extension"))


def spell_characters(text: str, language: str | None = None) -> str:
    """Every character by name: "XK-7" becomes "X K dash seven"; a space becomes a short pause."""
    return ", ".join(_spelled(group, language) for group in text.split())


def spell_digits(text: str, language: str | None = None) -> str:
    """Digits one by one, a comma wherever the writer parted them."""
    return ", ".join(_spelled(group, language) for group in _GROUP.findall(text))


def spell_telephone(text: str, language: str | None = None) -> str:
    """A telephone number group by group: "+1 555-0199" → "plus one, five five five, …".

    A long run without separators is parted in threes and fours.
    """
    spoken: list[str] = []
    plus = ""
    for group in _TELEPHONE_GROUP.findall(text):
        if group == "+":
            plus = "plus " if _is_english(language) else "+"
        elif group.lower() in _EXTENSION and _is_english(language):
            spoken.append("extension")
        else:
            parts = [_spelled(part, language) for part in _parted(group)]
            spoken += [plus + parts[0], *parts[1:]]
            plus = ""
    return ", ".join(spoken).replace("extension, ", "extension ")


def _parted(group: str) -> list[str]:
    """A bare run of digits as people say it: threes, the last four together."""
    if len(group) < 7 or not group.isdigit():
        return [group]
    head, tail = group[:-4], group[-4:]
    first = len(head) % 3
    parts = [head[:first]] if first else []
    return [*parts, *(head[at : at + 3] for at in range(first, len(head), 3)), tail]


def _spelled(group: str, language: str | None) -> str:
    spoken = " ".join(_character(character, language) for character in group)
    # A comma keeps the letter from being read as the article.
    return _LETTER_A.sub("A,", spoken) if _is_english(language) else spoken


def _character(character: str, language: str | None) -> str:
    if not _is_english(language):
        return character.upper() if len(character.upper()) == 1 else character
    if character.isdecimal():
        return _DIGITS[int(character)]
    return _SYMBOLS.get(character) or (
        character.upper() if len(character.upper()) == 1 else character
    )


def _is_english(language: str | None) -> bool:
    return language is None or language.lower().startswith("en")


MAX_BREAK_MS = 10_000.0
MAX_DEPTH = 64
MAX_PHONEME_CHARS = 300
"""What one <phoneme> may hold, and its attribute ph: a word or a few."""
MAX_SILENCE_MS = 120_000.0
"""All breaks of one text together: silence must not be a way to hold a slot."""

_STRENGTHS_MS = {
    "none": 0.0,
    "x-weak": 100.0,
    "weak": 200.0,
    "medium": 400.0,
    "strong": 700.0,
    "x-strong": 1_000.0,
}
_TIME = re.compile(r"\s*\+?(\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})(ms|s)\s*")
_ROOT = "<speak>"
_SUPPORTED = "speak, p, s, break, sub, phoneme, say-as"
_SPELLERS: Mapping[str, Callable[[str, str | None], str]] = {
    "characters": spell_characters,
    "spell-out": spell_characters,
    "verbatim": spell_characters,
    "digits": spell_digits,
    "telephone": spell_telephone,
}
_NORMALIZED = ("cardinal", "number", "ordinal")
_CONTAINERS: Mapping[str, ClauseEnd] = {"p": "paragraph", "s": "sentence"}


@dataclass(frozen=True, slots=True)
class TextRun:
    """Text to be segmented and normalized like any other."""

    text: str


@dataclass(frozen=True, slots=True)
class Fixed:
    """Text with a settled spoken form, never normalized; ``source`` is what was written."""

    source: str
    spoken: str
    ipa: str | None = None


@dataclass(frozen=True, slots=True)
class Break:
    """The end of a clause: a pause in milliseconds, or (None) the natural one for ``end``."""

    pause_ms: float | None
    end: ClauseEnd


SsmlItem: TypeAlias = TextRun | Fixed | Break


def parse_ssml(text: str, language: str | None = None) -> list[SsmlItem]:
    """Read SSML; a text without a ``<speak>`` root is taken as its content.

    Raises InputError (``param="input"``) for malformed XML (with line and column), a document
    type declaration, and elements or attribute values that are not supported.
    """
    text = drop_controls(text).lstrip()
    rooted = text.startswith(("<speak", "<?xml"))
    reader = _Reader(language)
    source = text if rooted else f"{_ROOT}{text}</speak>"
    try:
        reader.parser.Parse(source, True)
    except expat.ExpatError as error:
        added = len(_ROOT) if error.lineno == 1 and not rooted else 0
        place = f"line {error.lineno}, column {error.offset + 1 - added}"
        raise _bad(f"malformed at {place}: {expat.ErrorString(error.code)}") from error
    if sum(item.pause_ms or 0.0 for item in reader.items if isinstance(item, Break)) > (
        MAX_SILENCE_MS
    ):
        raise _bad(f"its breaks are longer than {MAX_SILENCE_MS / 1_000:.0f} s together")
    return reader.items


class _Reader:
    """Collects items while the parser walks through the document."""

    def __init__(self, language: str | None) -> None:
        self.items: list[SsmlItem] = []
        self._language = language
        self._open: list[tuple[str, Mapping[str, str]]] = []
        self._inner: list[str] = []
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self.parser.StartDoctypeDeclHandler = _refuse_doctype

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if not self._open and name != "speak":
            raise _bad(f"the outermost element must be <speak>, not <{name}>")
        if self._open and name == "speak":
            raise _bad("<speak> must not be nested")
        if self._open and self._open[-1][0] in ("phoneme", "say-as", "sub", "break"):
            raise _bad(f"<{self._open[-1][0]}> may hold text only")
        if len(self._open) >= MAX_DEPTH:
            raise _bad(f"elements are nested deeper than {MAX_DEPTH}")
        self._check(name, attributes)
        self._open.append((name, attributes))
        self._inner.clear()

    def _check(self, name: str, attributes: Mapping[str, str]) -> None:
        if name in _CONTAINERS:
            self.items.append(Break(None, _CONTAINERS[name]))
        elif name == "break":
            self.items.append(Break(_break_ms(attributes), "clause"))
        elif name == "say-as":
            _check_say_as(attributes)
        elif name == "phoneme":
            _check_phoneme(attributes)
        elif name == "sub":
            _required(name, attributes, "alias")
        elif name != "speak":
            raise _bad(f"the element <{name}> is not supported; supported are {_SUPPORTED}")

    def _characters(self, data: str) -> None:
        name = self._open[-1][0]
        if name in ("phoneme", "say-as", "sub", "break"):
            self._inner.append(data)
        else:
            self.items.append(TextRun(sanitize(data)))

    def _end(self, name: str) -> None:
        _, attributes = self._open.pop()
        inner = " ".join(sanitize("".join(self._inner)).split())
        if name in _CONTAINERS:
            self.items.append(Break(None, _CONTAINERS[name]))
        elif name == "sub":
            self.items.append(TextRun(sanitize(attributes["alias"])))
        elif name == "phoneme":
            ipa = sanitize(attributes["ph"]).strip().strip("/")
            if max(len(inner), len(ipa)) > MAX_PHONEME_CHARS:
                raise _bad(f"a <phoneme> is longer than {MAX_PHONEME_CHARS} characters")
            self.items.append(Fixed(inner, inner, ipa))
        elif name == "say-as" and inner:
            self.items.append(_said_as(attributes["interpret-as"].strip(), inner, self._language))
        elif name == "break" and inner:
            raise _bad("<break> must be empty")


def _said_as(how: str, inner: str, language: str | None) -> SsmlItem:
    if how in _SPELLERS:
        return Fixed(inner, _SPELLERS[how](inner, language))
    digits = inner.replace(" ", "")
    if how == "ordinal" and digits.isascii() and digits.isdigit():
        return TextRun(digits + _ordinal_suffix(int(digits[-2:])))
    return TextRun(inner)


def _ordinal_suffix(last_two: int) -> str:
    if 10 < last_two < 20:
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(last_two % 10, "th")


def _check_say_as(attributes: Mapping[str, str]) -> None:
    how = _required("say-as", attributes, "interpret-as")
    if how not in _SPELLERS and how not in _NORMALIZED:
        known = ", ".join((*_SPELLERS, *_NORMALIZED))
        raise _bad(f"interpret-as={shown(how)} is not supported; supported are {known}")


def _check_phoneme(attributes: Mapping[str, str]) -> None:
    alphabet = attributes.get("alphabet", "ipa")
    if alphabet != "ipa":
        raise _bad(f"the phoneme alphabet {shown(alphabet)} is not supported; use 'ipa'")
    if not any(map(str.isalpha, _required("phoneme", attributes, "ph"))):
        raise _bad("the attribute ph of <phoneme> holds no phoneme")


def _required(name: str, attributes: Mapping[str, str], attribute: str) -> str:
    value = attributes.get(attribute, "").strip()
    if not value:
        raise _bad(f"<{name}> needs the attribute {attribute}")
    return value


def _break_ms(attributes: Mapping[str, str]) -> float:
    if "time" not in attributes:
        strength = attributes.get("strength", "medium")
        if strength not in _STRENGTHS_MS:
            raise _bad(
                f"the break strength {shown(strength)} is not one of {', '.join(_STRENGTHS_MS)}"
            )
        return _STRENGTHS_MS[strength]
    match = _TIME.fullmatch(attributes["time"])
    if match is None:
        raise _bad(f"the break time {shown(attributes['time'])} is not like '500ms' or '1.5s'")
    pause_ms = float(match[1]) * (1_000 if match[2] == "s" else 1)
    if pause_ms > MAX_BREAK_MS:
        raise _bad(f"a break of {match[0].strip()} is longer than {MAX_BREAK_MS / 1_000:.0f} s")
    return pause_ms


def _refuse_doctype(*_: object) -> None:
    raise _bad("a document type declaration is not allowed")


def _bad(message: str) -> InputError:
    return InputError(f"SSML: {message}.", param="input")
