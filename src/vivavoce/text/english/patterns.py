"""How numbers are written: pattern pieces the rules share, and the reading of what they match.

Every piece is anchored on its left and possessive, so that no input makes it backtrack.
"""

from __future__ import annotations

import re

from vivavoce.text.english.numbers import cardinal, decimal, digits, fraction, mixed

# Not inside a word or another number.
LEFT = r"(?<!\w)(?<!\d[.,/])"
# The same, tested after the first digit, which lets the search skip to digits.
_FIRST = r"\d(?<!\w\d)(?<!\d[.,/]\d)"
WHOLE = r"\d++(?:,\d{3}(?!\d))*+"
NUMBER = WHOLE + r"(?:\.\d++)?"
FREE_NUMBER = _FIRST + r"\d*+(?:,\d{3}(?!\d))*+(?:\.\d++)?"
FRACTION = r"(?:\d{1,4}[ -])?\d{1,4}/\d{1,4}(?![\d/])"
# One number, a range of two, or a fraction, with its sign.
QUANTITY = rf"{LEFT}[-+]?(?:{FRACTION}|{NUMBER}(?:\s?-\s?{NUMBER})?)"

LONG_DIGITS = 7

_FRACTION = re.compile(r"(?:(\d+)[ -])?(\d+)/(\d+)")
_RANGE = re.compile(rf"({NUMBER})\s?-\s?({NUMBER})")
_ROUND = re.compile(r"[1-9]\d{0,2}0+")
_GROUPS = {8: (4, 4), 9: (3, 3, 3), 10: (3, 3, 4), 11: (1, 3, 3, 4)}


def say_digits(text: str) -> str:
    """A long string of digits, one by one, with commas where a person would pause."""
    if len(text) <= LONG_DIGITS:
        return digits(text)
    sizes = _GROUPS.get(len(text), (4,) * (len(text) // 4 + 1))
    groups, start = [], 0
    for size in sizes:
        groups.append(text[start : start + size])
        start += size
    return ", ".join(digits(group) for group in groups if group)


def say_whole(text: str) -> str:
    """Digits with or without thousands separators."""
    plain = text.replace(",", "")
    if plain != text or plain == "0":
        return cardinal(plain)
    if plain[0] == "0":
        return say_digits(plain)
    if len(plain) >= LONG_DIGITS and not _ROUND.fullmatch(plain):
        return say_digits(plain)
    return cardinal(plain)


def say_number(text: str) -> str:
    """An unsigned number, "1,234.5" or "12"."""
    whole, point, part = text.partition(".")
    if not point:
        return say_whole(text)
    if len(whole) > 1 and whole[0] == "0":
        return f"{say_whole(whole)} point {digits(part)}"
    return decimal(text.replace(",", ""))


def say_quantity(text: str) -> str:
    """What QUANTITY matches: "-5", "5-10", "2 1/2"."""
    if text[0] in "+-":
        return ("minus " if text[0] == "-" else "plus ") + say_quantity(text[1:])
    if found := _FRACTION.fullmatch(text):
        whole, top, bottom = found.groups()
        return mixed(whole, top, bottom) if whole else fraction(top, bottom)
    if found := _RANGE.fullmatch(text):
        return f"{say_number(found[1])} to {say_number(found[2])}"
    return say_number(text)


_FOLLOWERS_TEXT = (
    "a about above after again ago all and are as at away be because before behind below but "
    "by can could did do does down each every for from had has have he her his how i if in "
    "inside into is it its less like long more my near not now of off on only onto or our out "
    "over per she should since so than that the their then there they this through till to "
    "today too under until up was we were when where which while who will with within without "
    "would yet you your"
)
_FOLLOWERS = frozenset(_FOLLOWERS_TEXT.split())
_AFTER = re.compile(r"[ -]([a-z]+)")
_ARTICLE = re.compile(r"\b(?:an?|one|per|every)\s$", re.IGNORECASE)


def describes(text: str, end: int) -> bool:
    """Whether a noun seems to follow at ``end``."""
    after = _AFTER.match(text, end)
    return after is not None and after[1] not in _FOLLOWERS


def is_modifier(text: str, start: int, end: int) -> bool:
    """Whether the amount at ``[start:end]`` describes a noun: "a 5 kg bag" (singular unit)."""
    if not describes(text, end):
        return False
    return _ARTICLE.search(text[max(0, start - 6) : start]) is not None


def is_one(text: str) -> bool:
    """Whether a unit after this amount stands in the singular."""
    return text.lstrip("+-") == "1" or (_FRACTION.fullmatch(text) is not None and " " not in text)
