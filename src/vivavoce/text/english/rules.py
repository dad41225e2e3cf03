"""The rules in their order, and why they stand in it.

1. Marks of text formats go first, so that no later rule sees them.
2. Characters are folded to plain ones: later rules know one hyphen, one apostrophe, ten digits.
3. Addresses hold everything else (dots, digits, slashes, hyphens), so they are read before it.
4. Abbreviations next: "No. 5", "Nov. 21", "4 p.m." lose the dots that would mislead number rules.
5. Numbers from the most particular writing to the least: telephone, date, time, money, measure,
   code, ordinal, range, fraction, plain number. Each rule leaves words, which the next ones skip.
6. Roman numerals, then signs, when those that belong to numbers are gone.
7. The tidy-up drops what no rule knew.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from vivavoce.text.english import (
    abbreviations,
    addresses,
    codes,
    dates,
    markup,
    money,
    phones,
    punctuation,
    quantities,
    roman,
    symbols,
    units,
)


@dataclass(frozen=True)
class Rule:
    """A rewriting step and what a text must contain for it to be able to change anything."""

    apply: Callable[[str], str]
    needs: Callable[[str], object] | None = None


def _holds(pattern: str) -> Callable[[str], object]:
    return re.compile(pattern).search


_HTML = Rule(markup.strip_html)
_MARKDOWN = Rule(markup.strip_markdown)
_SPACES = Rule(lambda text: " ".join(text.split()))

NEUTRAL = (_HTML, _MARKDOWN, Rule(symbols.drop_emoji), Rule(symbols.drop_emoticons), _SPACES)

_BEFORE_NUMBERS = (
    _HTML,
    Rule(addresses.speak_paths, _holds(r"[/\\]")),
    _MARKDOWN,
    Rule(symbols.speak_emoji),
    Rule(markup.fold),
    _SPACES,
    Rule(addresses.speak_emails, _holds("@")),
    Rule(addresses.speak_urls, _holds(r"\w[.:][\w/]")),
    Rule(addresses.speak_hashtags, _holds("#")),
    Rule(abbreviations.join_initials, _holds(r"[./&]|(?i:\baka\b)")),
    Rule(abbreviations.speak_spans, _holds(r"[a-z.]\s?-\s?[A-Z][a-z][a-z]")),
    Rule(abbreviations.expand_abbreviations),
)
_NUMBERS = (
    Rule(symbols.speak_number_signs, _holds("[#§~]")),
    Rule(codes.speak_fixed, _holds("/|0s of|50-50")),
    Rule(
        phones.speak_phones,
        _holds(r"\d[-. )(]{1,2}\d{3}|\+\d|\d-\d+-\d|\d-[A-Z]|(?i:call|dial|text|extension) \d\d"),
    ),
    Rule(quantities.plain_grouping, _holds(r"\.\d{3},|,\d\d,")),
    Rule(dates.speak_dates),
    Rule(dates.speak_times, _holds(r"\d(?:\s?[AaPp]|:\d|h\d|\shours)")),
    Rule(
        money.speak_money,
        lambda text: not money.MONEY_MARKS.isdisjoint(text) or money.CODE_MARK.search(text),
    ),
    Rule(units.join_ranges, _holds(r"\d\s?[%°'A-Za-z]{1,3}\s?-\s?\d")),
    Rule(units.speak_sizes, _holds(r"\d\s?['\"x×X°]|\d\s?ft|\d\s?(?:in\.|[a-z]{1,2}\.?\s?[x×])")),
    Rule(codes.speak_codes),
    Rule(units.speak_units),
    Rule(quantities.speak_scientific, _holds(r"\d[eE][-+]?\d")),
    Rule(symbols.speak_powers, _holds(r"\^|\*\*")),
    Rule(quantities.speak_ordinals, _holds(r"\d(?i:st|nd|rd|th)")),
    Rule(quantities.speak_ranges, _holds("-")),
    Rule(quantities.speak_fractions, _holds("/")),
    Rule(codes.speak_alphanumerics, _holds(r"\d[^\W\d]|[^\W\d]-?\d|\d-[^\W\d]")),
    Rule(quantities.speak_numbers),
)
_AFTER_NUMBERS = (
    Rule(roman.speak_roman),
    Rule(symbols.speak_symbols, _holds(r"[^\w\s,.?!:;'\"()-]|[\u0370-\u03ff]")),
    Rule(abbreviations.spell_acronyms, _holds("[A-Z]{2}")),
    Rule(punctuation.tidy),
)
_HAS_DIGIT = _holds(r"\d")


def _run(rules: tuple[Rule, ...], text: str) -> str:
    for rule in rules:
        if rule.needs is None or rule.needs(text):
            text = rule.apply(text)
    return text


def clean(text: str) -> str:
    """The steps that suit every language."""
    return _run(NEUTRAL, text)


def speak_english(text: str) -> str:
    """All rules of English."""
    text = _run(_BEFORE_NUMBERS, text)
    if _HAS_DIGIT(text):
        text = _run(_NUMBERS, text)
    return _run(_AFTER_NUMBERS, text)
