"""Numbers into English words: pure functions over digits, no pattern matching.

Digits may be given as text, so that no size is too large; numbers beyond the last named power
(10**63) are read digit by digit.
"""

from __future__ import annotations

_SMALL_TEXT = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
)
_SMALL = tuple(_SMALL_TEXT.split())
_TENS_TEXT = "zero ten twenty thirty forty fifty sixty seventy eighty ninety"
_TENS = tuple(_TENS_TEXT.split())
_SCALES_TEXT = (
    "units thousand million billion trillion quadrillion quintillion sextillion septillion "
    "octillion nonillion decillion undecillion duodecillion tredecillion quattuordecillion "
    "quindecillion sexdecillion septendecillion octodecillion novemdecillion vigintillion"
)
_SCALES = tuple(_SCALES_TEXT.split())
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_STR_LIMIT = 10**4000  # Python refuses to turn longer integers into text at once


def _digits_of(value: int) -> str:
    if value < _STR_LIMIT:
        return str(value)
    high, low = divmod(value, _STR_LIMIT)
    return _digits_of(high) + str(low).zfill(4000)


def _below_hundred(value: int) -> str:
    if value < 20:
        return _SMALL[value]
    tens, ones = divmod(value, 10)
    return f"{_TENS[tens]}-{_SMALL[ones]}" if ones else _TENS[tens]


def _below_thousand(value: int) -> str:
    hundreds, rest = divmod(value, 100)
    if not hundreds:
        return _below_hundred(rest)
    head = f"{_SMALL[hundreds]} hundred"
    return f"{head} {_below_hundred(rest)}" if rest else head


def cardinal(value: int | str) -> str:
    """``1234`` (or ``"1234"``, ASCII digits only) -> "one thousand two hundred thirty-four"."""
    if isinstance(value, int):
        if value < 0:
            return "minus " + cardinal(-value)
        value = _digits_of(value)
    plain = value.lstrip("0")
    if not plain:
        return "zero"
    count = (len(plain) + 2) // 3
    if count > len(_SCALES):
        return digits(value)
    padded = plain.zfill(count * 3)
    words = []
    for index in range(count):
        group = int(padded[index * 3 : index * 3 + 3])
        scale = count - 1 - index
        if group:
            words.append(_below_thousand(group))
            words += [_SCALES[scale]] if scale else []
    return " ".join(words)


def ordinal_of(words: str) -> str:
    """Cardinal words into ordinal ones: "twenty-one" -> "twenty-first"."""
    cut = max(words.rfind(" "), words.rfind("-")) + 1
    last = words[cut:]
    if last in _ORDINALS:
        return words[:cut] + _ORDINALS[last]
    return words[:cut] + (last[:-1] + "ieth" if last.endswith("y") else last + "th")


def ordinal(value: int | str) -> str:
    """``22`` -> "twenty-second"."""
    return ordinal_of(cardinal(value))


def digits(text: str) -> str:
    """``"305"`` -> "three zero five"."""
    return " ".join(_SMALL[int(char)] for char in text)


def pairs(text: str) -> str:
    """As rooms, flights and codes are read: ``"2490"`` -> "twenty-four ninety".

    Up to two digits are a number; more than four, or a leading zero, are single digits.
    """
    if len(text) > 4 or (len(text) > 1 and text[0] == "0"):
        return digits(text)
    if len(text) < 3 or text.endswith("000"):
        return cardinal(text)
    high, low = _below_hundred(int(text[:-2])), text[-2:]
    if low == "00":
        return f"{high} hundred"
    return (
        f"{high} oh {_SMALL[int(low)]}" if low[0] == "0" else f"{high} {_below_hundred(int(low))}"
    )


def year(text: str) -> str:
    """``"1999"`` -> "nineteen ninety-nine"; ``"2005"`` -> "two thousand five"."""
    if len(text) != 4 or text[0] == "0" or text[1:3] == "00":
        return cardinal(text)
    return pairs(text)


def plural_of(words: str) -> str:
    """Cardinal words into their plural: "nineteen ninety" -> "nineteen nineties"."""
    return (
        words[:-1] + "ies" if words.endswith("y") else words + ("es" if words[-1] == "x" else "s")
    )


def decimal(text: str) -> str:
    """``"3.14"`` -> "three point one four"; ``".5"`` -> "point five"; ``"7"`` -> "seven"."""
    whole, point, part = text.partition(".")
    words = [cardinal(whole)] if whole else []
    if point and part:
        words += ["point", digits(part)]
    return " ".join(words)


def fraction(numerator: str, denominator: str) -> str:
    """``("3", "4")`` -> "three quarters"; unusual ones are read as "n over d"."""
    top, bottom = int(numerator), int(denominator)
    if bottom < 2 or top > bottom or bottom > 999:
        return f"{cardinal(numerator)} over {cardinal(denominator)}"
    if top == bottom:
        return f"{cardinal(top)} out of {cardinal(bottom)}"
    if bottom == 2:
        return "one half" if top == 1 else "zero halves"
    name = "quarter" if bottom == 4 else ordinal(bottom)
    return f"{cardinal(top)} {name}" + ("" if top == 1 else "s")


def mixed(whole: str, numerator: str, denominator: str) -> str:
    """``("2", "1", "2")`` -> "two and a half"."""
    part = fraction(numerator, denominator)
    if numerator == "1" and denominator in {"2", "4"}:
        part = "a " + part.removeprefix("one ")
    return f"{cardinal(whole)} and {part}"
