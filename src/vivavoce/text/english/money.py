"""Amounts of money: "$1,234.56", "€20", "20 EUR", "$1.2M", "$5-10", "US$5"."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vivavoce.text.english.numbers import cardinal
from vivavoce.text.english.patterns import (
    FREE_NUMBER,
    LEFT,
    NUMBER,
    is_modifier,
    say_number,
    say_whole,
)
from vivavoce.text.english.units import per_words


@dataclass(frozen=True)
class Currency:
    """Singular and plural of a currency and of its hundredth, where it has one."""

    one: str
    many: str
    cent: str = ""
    cents: str = ""


def _dollars(adjective: str = "") -> Currency:
    return Currency(f"{adjective}dollar", f"{adjective}dollars", "cent", "cents")


_POUND = Currency("pound", "pounds", "penny", "pence")
_EURO = Currency("euro", "euros", "cent", "cents")
_SIGNS = {
    "$": _dollars(), "£": _POUND, "€": _EURO, "¥": Currency("yen", "yen"),
    "₹": Currency("rupee", "rupees", "paisa", "paise"), "₩": Currency("won", "won"),
    "₽": Currency("ruble", "rubles", "kopeck", "kopecks"), "₿": Currency("bitcoin", "bitcoins"),
    "₺": Currency("lira", "lira"), "₴": Currency("hryvnia", "hryvnias"),
    "₪": Currency("shekel", "shekels"), "₫": Currency("dong", "dong"),
    "฿": Currency("baht", "baht"), "₱": Currency("peso", "pesos"),
    "US$": _dollars("US "), "A$": _dollars("Australian "), "C$": _dollars("Canadian "),
    "CA$": _dollars("Canadian "), "AU$": _dollars("Australian "), "NZ$": _dollars("New Zealand "),
    "HK$": _dollars("Hong Kong "), "R$": Currency("real", "reais"),
}  # fmt: skip
_CODES = {
    "USD": _dollars("US "), "EUR": _EURO, "GBP": _POUND, "JPY": _SIGNS["¥"],
    "CAD": _dollars("Canadian "), "AUD": _dollars("Australian "), "INR": _SIGNS["₹"],
    "CHF": Currency("Swiss franc", "Swiss francs"), "CNY": Currency("yuan", "yuan"),
    "RMB": Currency("yuan", "yuan"), "KRW": _SIGNS["₩"], "SEK": Currency("krona", "kronor"),
    "NOK": Currency("krone", "kroner"), "DKK": Currency("krone", "kroner"),
    "PLN": Currency("zloty", "zlotys"), "MXN": Currency("Mexican peso", "Mexican pesos"),
    "BTC": _SIGNS["₿"], "NZD": _dollars("New Zealand "), "HKD": _dollars("Hong Kong "),
    "SGD": _dollars("Singapore "),
}  # fmt: skip
_SCALES = {
    "k": "thousand", "m": "million", "mn": "million", "mm": "million", "mio": "million",
    "b": "billion", "bn": "billion", "t": "trillion", "tn": "trillion", "thousand": "thousand",
    "million": "million", "billion": "billion", "trillion": "trillion", "hundred": "hundred",
}  # fmt: skip

_SCALE = r"(?:\s?(thousand|million|billion|trillion|hundred|mio|mn|mm|bn|tn|[kKmMbBtT])\b)?"
_SIGN = "|".join(re.escape(sign) for sign in sorted(_SIGNS, key=len, reverse=True))
_CODE = "|".join(_CODES)
_PER = r"(?:\s?/\s?([A-Za-z]+))?"
_EURO_STYLE = r"(?:\d{1,3}(?:\.\d{3})++,\d{2}(?!\d)|\d++,\d{2}(?!\d))"
_AMOUNT = rf"({_EURO_STYLE}|{NUMBER}|\.\d++)"

_BEFORE = re.compile(
    rf"(?<!\w)(-)?({_SIGN}|(?:{_CODE})\b)\s?(-)?{_AMOUNT}(?:\s?-\s?(?:{_SIGN})?({NUMBER}))?{_SCALE}{_PER}"
)
_AFTER = re.compile(
    rf"{LEFT}(-)?()(){_AMOUNT}(?:\s?-\s?({NUMBER}))?{_SCALE}\s?({_SIGN}|(?:{_CODE})\b)(?!\d){_PER}"
)
_CENTS = re.compile(rf"({FREE_NUMBER})\s?¢")
_AFTER_HINT = re.compile(rf"\d{_SCALE}\s?(?:{_SIGN}|(?:{_CODE})\b)")
_LOOKS_EURO = re.compile(_EURO_STYLE)


def _plain(amount: str, sign: str) -> str:
    """European "1.234,56" into "1234.56"; for signs that Europeans use, "3,50" too."""
    if _LOOKS_EURO.fullmatch(amount) and (
        "." in amount or sign in {"€", "EUR"} or amount[-3] == ","
    ):
        return amount.replace(".", "").replace(",", ".")
    return amount


def _with_cents(whole: str, part: str, money: Currency) -> str:
    cents = int(part.ljust(2, "0")[:2])
    units = whole.replace(",", "")
    words = []
    if units.strip("0") or not cents:
        words.append(f"{say_whole(whole)} {money.one if units == '1' else money.many}")
    if cents:
        words.append(f"{cardinal(cents)} {money.cent if cents == 1 else money.cents}")
    return " and ".join(words)


def _sum(amount: str, scale: str | None, money: Currency) -> str:
    whole, _, part = amount.partition(".")
    if scale:
        return f"{say_number(amount)} {_SCALES[scale.lower()]} {money.many}"
    if part and money.cent and len(part) <= 2:
        return _with_cents(whole or "0", part, money)
    if part:
        return f"{say_number(amount)} {money.many}"
    return f"{cardinal(whole.replace(',', ''))} {money.one if whole == '1' else money.many}"


def _say(found: re.Match[str], groups: tuple[str | None, ...]) -> str:
    minus, sign, amount, second, scale, per = groups
    money = _SIGNS.get(sign or "") or _CODES[sign or "USD"]
    plain = _plain(amount or "0", sign or "")
    if second:
        words = f"{say_number(plain)} to {_sum(second, scale, money)}"
    else:
        words = _sum(plain, scale, money)
        if is_modifier(found.string, found.start(), found.end()) and words.endswith(money.many):
            words = words.removesuffix(money.many) + money.one
    tail = f" {per_words(per)}" if per else ""
    return ("minus " if minus else "") + words + tail


def _say_before(found: re.Match[str]) -> str:
    minus, sign, inner, amount, second, scale, per = found.groups()
    return _say(found, (minus or inner, sign, amount, second, scale, per))


def _say_after(found: re.Match[str]) -> str:
    minus, _, _, amount, second, scale, sign, per = found.groups()
    return _say(found, (minus, sign, amount, second, scale, per))


def speak_money(text: str) -> str:
    """ "$4.30" -> "four dollars and thirty cents"."""
    text = _BEFORE.sub(_say_before, text)
    if _AFTER_HINT.search(text):
        text = _AFTER.sub(_say_after, text)
    if "¢" in text:
        text = _CENTS.sub(
            lambda found: f"{say_number(found[1])} cent{'' if found[1] == '1' else 's'}", text
        )
    return text


MONEY_MARKS = frozenset("$£€¥₹₩₽₿₺₴₪₫฿₱¢")
CODE_MARK = re.compile(rf"\b(?:{_CODE})\b")
