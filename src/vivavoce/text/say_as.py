"""Spoken forms for SSML ``<say-as>``: characters and digits one by one, telephone numbers."""

from __future__ import annotations

import re

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
