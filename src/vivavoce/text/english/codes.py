"""Numbers that name things: "BA2490", "B-52", "v2.1.3", "192.168.0.1", "PIN 1234", "room 305"."""

from __future__ import annotations

import re

from vivavoce.text.english.numbers import cardinal, ordinal, pairs, year
from vivavoce.text.english.patterns import FREE_NUMBER, LEFT, say_digits, say_number

_STOP = r"(?!\w|[.,]\d)"
# Words after which each digit is read, from this many digits on.
_SPELLED = {
    name: size
    for size, names in (
        (4, "number account order confirmation reference ref ticket tracking invoice case serial "
            "policy routing booking reservation member membership customer license licence card "
            "id ending isbn ssn barcode sku"),
        (2, "code pin zip postcode passcode password otp extension combination"),
    )
    for name in names.split()
}  # fmt: skip
_PAIRED_TEXT = (
    "flight room suite gate channel route bus highway interstate apartment building train unit "
    "area ward locker platform studio error http status form boeing airbus porsche peugeot"
)
_PAIRED = frozenset(_PAIRED_TEXT.split())
_JOINTS = frozenset({"number", "no", "code", "id", "is", "was", "of", "in", "the"})
_DIGITS = re.compile(rf"\d(?<![\w.,/$£€-]\d)\d++(?:-\d++)?{_STOP}(?!\s?%)")
_WORD = re.compile(r"[A-Za-z]+")
_BACK = 32
_STATE_ZIP = re.compile(rf"(?<=\b[A-Z][A-Z]\s)(\d{{5}}(?:-\d{{4}})?){_STOP}(?!\s[a-z])")
_HOUSE = re.compile(
    r"(\d(?<![\w.,$-]\d)\d{2,4})(?=\s(?:(?:North|South|East|West|[NSEW])\s)?(?:[A-Z][a-z]+\s|\d+(?:st|nd|rd|th)\s){1,3}"
    r"(?:Street|Avenue|Road|Drive|Boulevard|Lane|Way|Court|Place|Square|Highway|Parkway)\b)"
)
_DOTTED = re.compile(r"\d\.\d+\.")
_ADDRESS = re.compile(rf"{LEFT}\d{{1,3}}(?:\.\d{{1,3}}){{3}}(?::(\d{{1,5}}))?(?![\w]|\.\d)")
_VERSION = re.compile(
    r"(?<![\w.])(?:(v)(?:ersion\s)?)?(\d+(?:\.\d+){2,})(?![\w.]*\w)", re.IGNORECASE
)
_SHORT_VERSION = re.compile(r"v(?<![\w.]v)\.?\s?(\d+(?:\.\d+)?)(?![\w]|\.\d)")
_TOKEN = re.compile(r"(?<![\w-])(?:#(?=\w*[A-Za-z]))?[A-Za-z-]*+\d[\w-]*")
_DECIMAL = re.compile(rf"({FREE_NUMBER})([A-Za-z]+)(?!\w)")
_RUN = re.compile(r"\d+|[^\W\d_]+")
_ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th)", re.IGNORECASE)
_DECADE = re.compile(r"\d*[1-9]0s|\d+00s")
_MANY = re.compile(rf"{LEFT}(10|100|1000|1,000)s(?= of )")
_MANY_NAMES = {"10": "tens", "100": "hundreds", "1000": "thousands", "1,000": "thousands"}
_ALWAYS = (
    ("24/7", "twenty-four seven"),
    ("50/50", "fifty-fifty"),
    ("50-50", "fifty-fifty"),
    ("9/11", "nine eleven"),
)


def _say_address(found: re.Match[str]) -> str:
    host, _, port = found[0].partition(":")
    words = " dot ".join(pairs(str(int(part))) for part in host.split("."))
    return f"{words} port {say_digits(port)}" if port else words


def _say_version(found: re.Match[str]) -> str:
    return f"version {_points(found[2])}" if found[1] else _points(found[2])


def _points(written: str) -> str:
    """``"1.2.10"`` -> "one point two point ten"."""
    return " point ".join(cardinal(part) for part in written.split("."))


def _digit_groups(written: str) -> str:
    """``"94110-1234"``: digit by digit, with a pause between the groups."""
    return ", ".join(say_digits(part) for part in written.split("-"))


def _number_part(part: str, before: str) -> str:
    """A part of a hyphenated token that is digits alone."""
    if len(part) <= 2 and part[0] != "0":
        return cardinal(part)
    if before.isalpha() and before.isupper() and len(before) <= 3:
        return pairs(part) if len(part) <= 4 else say_digits(part)
    if len(part) == 4 and part[0] in "12":
        return year(part)
    return cardinal(part) if len(part) <= 6 and part[0] != "0" else say_digits(part)


def _mixed_part(part: str) -> str:
    """Letters and digits run together: "BA2490", "4K", "R2D2", "22nd"."""
    if found := _ORDINAL.fullmatch(part):
        return ordinal(found[1])
    words: list[str] = []
    for run in _RUN.findall(part):
        if not run.isdecimal():
            words.append("K" if run == "k" else run)
            continue
        spoken = say_digits(run) if len(run) > 4 else pairs(run)
        if words and words[-1] == "A":  # apart, it would be read as the article
            words[-1] += "-" + spoken
        else:
            words.append(spoken)
    return " ".join(words)


def _say_token(found: re.Match[str]) -> str:
    parts = [part for part in found[0].lstrip("#").split("-") if part]
    words = ""
    for index, part in enumerate(parts):
        before = parts[index - 1] if index else ""
        if part.isdecimal():
            spoken = _number_part(part, before)
        else:
            spoken = _mixed_part(part) if not part.isalpha() else part
        joint = "-" if (part + before).islower() else " "
        if before == "A" and part[0].isdecimal():
            joint = "-"
        words += (joint if index else "") + spoken
    return words


def _say_named(found: re.Match[str]) -> str:
    text, written = found.string, found[0]
    before = _WORD.findall(text[max(0, found.start() - _BACK) : found.start()])[-4:]
    while before:
        written_word = before.pop()
        if written_word.isupper() and len(written_word) == 2 and before:  # the carrier of a flight
            continue
        word = written_word.lower()
        if len(written) >= _SPELLED.get(word, len(written) + 1):
            return _digit_groups(written)
        if word in _PAIRED and written.isdecimal() and len(written) in {3, 4}:
            return pairs(written)
        if word not in _JOINTS:
            break
    return written


def speak_codes(text: str) -> str:
    """Digits after words like "code" or "account" one by one; after "room" or "flight" in pairs."""
    if _DOTTED.search(text):
        text = _ADDRESS.sub(_say_address, text)
        text = _VERSION.sub(_say_version, text)
    text = _DIGITS.sub(_say_named, text)
    text = _STATE_ZIP.sub(lambda found: _digit_groups(found[1]), text)
    text = _HOUSE.sub(lambda found: pairs(found[1]), text)
    return _SHORT_VERSION.sub(lambda found: f"version {_points(found[1])}", text)


def speak_fixed(text: str) -> str:
    """Set phrases: "24/7", "100s of"."""
    text = _MANY.sub(lambda found: _MANY_NAMES[found[1]], text)
    for written, spoken in _ALWAYS:
        if written in text:
            text = re.sub(rf"(?<![\w/.,]){written}(?![\w/]|[.,]\d)", spoken, text)
    return text


def _say_decimal(found: re.Match[str]) -> str:
    """ "2.5k"; whole numbers are left to the rule for tokens."""
    number, letters = found.groups()
    if number.isdecimal():
        return found[0]
    return f"{say_number(number)} {'K' if letters == 'k' else letters}"


def speak_alphanumerics(text: str) -> str:
    """Words that hold digits: "BA2490" -> "BA twenty-four ninety"."""

    def say(found: re.Match[str]) -> str:
        token = found[0].lstrip("#-")
        if token.rstrip("-").isdecimal() or not any(char.isalpha() for char in token):
            return found[0]
        return "" if not token else _say_token(found)

    return _TOKEN.sub(say, _DECIMAL.sub(_say_decimal, text))
