"""Where a sentence or clause may end: the rules behind the segmenter.

Every function looks at a window of text that starts with the current piece and answers True,
False, or None for "cannot say before more text is seen". An answer other than None never changes
when the window grows. Whitespace in a window is one space, one newline, or two newlines.
"""

from __future__ import annotations

import re
import unicodedata

from vivavoce.text.abbreviations import (
    AFTER_CLOCK,
    BANG_NAMES,
    CALENDAR,
    OPENERS,
    Abbreviations,
)

UNSPACED_ENDS = "。！？｡．।॥။།።"
"""Marks that end a sentence with or without a space after them."""
ENDS = ".!?…‽؟۔։" + UNSPACED_ENDS
UNSPACED_MARKS = "，、；：﹐､"
MARKS = ",;:،؛—–-" + UNSPACED_MARKS
END_CLASS = re.escape(ENDS)
MARK_CLASS = re.escape(MARKS)

CJK = "\u1100-\u11ff\u2e80-\u2fff\u3005-\u30ff\u3130-\u318f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
CJK += "\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
CJK_CHARACTER = re.compile(f"[{CJK}]")

_CLOSERS = r"(?:[\"'”’»›)\]}」』）】〉》*_`]|\[\d{1,3}\])*"
_END_RUN = re.compile(f"([{END_CLASS}]+)({_CLOSERS})")
_MARK_RUN = re.compile(f"([{MARK_CLASS}]+)({_CLOSERS})")
_NOTE_BEGUN = re.compile(r"\[\d{0,3}\Z")
_QUOTE_GOES_ON = "とっての、，"
_OPENING = re.compile("[\"'“‘«‹(\\[{*_`¿¡「『（【]{0,6}")
_SPEAKABLE = re.compile("[^\\W_]|[\U000f0000-\U0010ffff]")
_WORD = re.compile(r"[^\W\d_]{1,16}")
_LIST_MARKER = re.compile(r"(?:[-*•–+‣◦]|\(?\d{1,3}[.)]|\(?[A-Za-z][.)])\s")
_ROMAN = re.compile(r"[IVXLC]+")
_VOWEL = re.compile("[aeiouyà-öø-ü]", re.IGNORECASE)
_STOPS_SOON = re.compile(f"[{END_CLASS}](?=\\s)|[{UNSPACED_ENDS}]|\n\n")
_PAUSES_SOON = re.compile(f"[{END_CLASS},;:،؛—{UNSPACED_MARKS}]|\n\n")
_SUFFIXES = frozenset(("jr", "sr", "inc", "ltd", "llc", "phd", "md", "esq", "iii", "ii"))
_ARTICLES = frozenset(("the", "a", "an", "my", "your", "his", "her", "its", "our", "their", "not"))

_MAX_HEADING_CHARS = 48
_MAX_MARKS = 16
_REST_AFTER_MARK_CHARS = 16
_REST_AFTER_SPACE_CHARS = 16
_CONJUNCTION_FROM_CHARS = 40
_PREPOSITION_FROM_CHARS = 55
_ANY_SPACE_FROM_CHARS = 80
_DESPERATE_FROM_CHARS = 110


def run_end(window: str, index: int) -> int:
    """The index after the run of end marks and closing quotes or brackets at ``index``."""
    match = _END_RUN.match(window, index)
    return match.end() if match else index + 1


def mark_end(window: str, index: int) -> int:
    """The same for clause marks."""
    match = _MARK_RUN.match(window, index)
    return match.end() if match else index + 1


def before_character(text: str, index: int) -> int:
    """``index``, or a little before it where it would part a character from its marks."""
    cut = index
    while cut > max(index - _MAX_MARKS, 1) and _continues(text[cut]):
        cut -= 1
    return cut


def _continues(character: str) -> bool:
    """Whether a character belongs to the one before it."""
    return unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf") or (
        "\U0001f3fb" <= character <= "\U0001f3ff"
    )


def sentence_ends(window: str, index: int, closed: bool, table: Abbreviations) -> bool | None:
    """Whether the end mark at ``index`` ends a sentence. ``closed``: no text follows the window."""
    match = _END_RUN.match(window, index)
    if match is None or not _has_word(window, index):
        return False  # the blank line after it, if any, is a boundary by itself
    after = match.end()
    if after == len(window):
        return True if closed else None
    if not closed and _NOTE_BEGUN.match(window, after):
        return None
    run, closers = match[1], match[2]
    if any(mark in UNSPACED_ENDS for mark in run):
        return _unspaced_ends(window, index, after, closers)
    if window[after] not in " \n":
        return False
    if window.startswith("\n\n", after):
        return True
    opening = _OPENING.match(window, after + 1)
    following = opening.end() if opening else after + 1
    if following == len(window):
        return True if closed else None
    return _spaced_ends(window, match, following, closed, table)


def _unspaced_ends(window: str, index: int, after: int, closers: str) -> bool:
    follower = window[after]
    if index and window[index - 1].isdigit() and follower.isdigit():
        return False
    return not (closers and follower in _QUOTE_GOES_ON)


def _spaced_ends(
    window: str, match: re.Match[str], following: int, closed: bool, table: Abbreviations
) -> bool | None:
    run, closers = match[1], match[2]
    goes_lower = window[following].islower()
    if closers and goes_lower:
        return False
    if run.strip(".…"):
        return not (goes_lower and _token(window, match.start()).lower() in BANG_NAMES)
    if len(run) > 1 or run == "…":
        return _ellipsis_ends(window, following, closed)
    if closers and not set(closers) <= set("*_`"):
        return True
    return _period_ends(window, match.start(), following, closed, table)


def _ellipsis_ends(window: str, following: int, closed: bool) -> bool | None:
    if window[following].islower():
        return False
    word = _next_word(window, following, closed)
    return None if word is None else word != "I"


def _period_ends(
    window: str, index: int, following: int, closed: bool, table: Abbreviations
) -> bool | None:
    token = _token(window, index)
    follower = window[following]
    if not token:
        return follower != "." and not follower.islower()
    key = token.lower()
    if follower.islower():
        return _ends_before_lower(window, token, following, table)
    if token.isdigit():
        return not (index <= 3 or (table.ordinal_period and len(token) <= 2))
    if len(token) == 1 and (token.isupper() or token.islower()):
        return _initial_ends(window, token, index, following, closed)
    if key in ("a.m", "p.m"):
        word = _next_word(window, following, closed)
        return None if word is None else word.lower() not in AFTER_CLOCK
    if key in table.never or key.endswith(table.suffixes):
        return False
    if key in table.counting:
        plain = _is_plain_use(window, key, following, closed)
        if not plain:
            return plain
    may_end = key in table.maybe and (key not in CALENDAR or token[0].isupper())
    if may_end or _is_acronym(token):
        return _opens_sentence(window, following, closed)
    return True


def _ends_before_lower(window: str, token: str, following: int, table: Abbreviations) -> bool:
    """Before a small letter only a plain word ends a sentence, as in text without capitals."""
    key = token.lower()
    known = key in table.never or key in table.maybe or key in table.counting
    known = known or key.endswith(table.suffixes)
    if known or not token.isalpha() or (token.isascii() and not _VOWEL.search(token)):
        return False
    return len(token) >= 4 or (len(token) > 1 and window[:following].islower())


def _initial_ends(window: str, token: str, index: int, following: int, closed: bool) -> bool | None:
    before = window[: index - 1].rstrip()
    if token == "I" and before and before[-1].islower():
        return True
    return _opens_sentence(window, following, closed)


def _is_plain_use(window: str, key: str, following: int, closed: bool) -> bool | None:
    """Whether "no." or "fig." stands as a word: no number follows."""
    if key == "no" or window[following].isdigit():
        return not window[following].isdigit()
    word = _next_word(window, following, closed)
    return None if word is None else not _ROMAN.fullmatch(word)


def _is_acronym(token: str) -> bool:
    parts = token.split(".")
    return len(parts) > 1 and all(part.isalpha() and len(part) <= 2 for part in parts)


def _opens_sentence(window: str, following: int, closed: bool) -> bool | None:
    word = _next_word(window, following, closed)
    return None if word is None else word.lower() in OPENERS


def _next_word(window: str, start: int, closed: bool) -> str | None:
    """The word at ``start`` (empty if none), or None while it may still grow."""
    match = _WORD.match(window, start)
    if match is None:
        return ""
    if match.end() == len(window) and not closed and len(match[0]) < 16:
        return None
    return match[0]


def _token(window: str, index: int) -> str:
    """The word that ends before ``index``, without what opens it."""
    tail = window[max(0, index - 40) : index]
    start = max(tail.rfind(mark) for mark in " \n\xa0—–-/")
    return tail[start + 1 :].lstrip("\"'“‘«([{*_")


def _has_word(window: str, end: int) -> bool:
    """Whether something can be spoken before ``end``: a letter, a digit, a fixed SSML part."""
    return _SPEAKABLE.search(window, 0, end) is not None


def newline_ends(window: str, index: int, closed: bool, table: Abbreviations) -> bool | None:
    """Whether the newline at ``index`` ends a paragraph, list item or heading."""
    if window.startswith("\n\n", index):
        return True
    if not _has_word(window, index):
        return False
    ahead = window[index + 1 : index + 7]
    if len(ahead) < 6 and "\n" not in ahead and not closed:
        return None
    line = window[window.rfind("\n", 0, index) + 1 : index]
    if _LIST_MARKER.match(line) or _LIST_MARKER.match(ahead):
        return True
    if line.startswith("#") or ahead.startswith("#") or line.endswith(":"):
        return True
    return _is_heading(line, ahead, table)


def _is_heading(line: str, ahead: str, table: Abbreviations) -> bool:
    if len(line) > _MAX_HEADING_CHARS or not line[-1].isalnum():
        return False
    opening = _OPENING.match(ahead)
    first = ahead[opening.end() if opening else 0 :][:1]
    last_word = line.rsplit(maxsplit=1)[-1].lower()
    return first.isupper() and not _leans_on_next(last_word, table)


def _leans_on_next(word: str, table: Abbreviations) -> bool:
    return word in _ARTICLES or word in table.prepositions or word in table.conjunctions


def is_clause_mark(window: str, index: int) -> bool | None:
    """Whether the mark at ``index`` parts two clauses, whatever their lengths."""
    match = _MARK_RUN.match(window, index)
    if match is None:
        return False
    after = match.end()
    if after >= len(window) or _NOTE_BEGUN.match(window, after):
        return None
    before, mark = window[index - 1 : index], match[1]
    if mark[0] in UNSPACED_MARKS:
        return not (before.isdigit() and window[after].isdigit())
    if mark in ("—", "--", "——"):
        return not before.isdigit()
    if window[after] not in " \n":
        return False
    if mark[0] in "–-":
        return before == " " and not window[index - 2 : index - 1].isdigit()
    return not (before.isdigit() and window[after + 1 : after + 2].isdigit())


def clause_ends(window: str, index: int, closed: bool) -> bool | None:
    """Whether the first piece of an utterance should end at the mark at ``index``."""
    found = is_clause_mark(window, index)
    if not found:
        return False if closed else found
    after = mark_end(window, index)
    if not _long_enough(window[:after]) or _inside_brackets(window, after):
        return False
    rest = window[after : after + _REST_AFTER_MARK_CHARS]
    if _STOPS_SOON.search(rest):
        return False
    if len(rest) < _REST_AFTER_MARK_CHARS:
        return False if closed else None
    if rest[-1] in ENDS:
        return False
    word = _WORD.match(rest.lstrip())
    return word is None or word[0].lower() not in _SUFFIXES


def _long_enough(text: str) -> bool:
    if CJK_CHARACTER.search(text):
        return len(text) >= 6
    words = sum(1 for word in text.split() if any(map(str.isalnum, word)))
    return (len(text) >= 12 and words >= 3) or (len(text) >= 20 and words >= 2)


def _inside_brackets(window: str, end: int) -> bool:
    return window.count("(", 0, end) > window.count(")", 0, end)


def space_ends(window: str, index: int, closed: bool, table: Abbreviations) -> bool | None:
    """Whether a long first piece without marks should end at the space at ``index``."""
    if index < _CONJUNCTION_FROM_CHARS:
        return False
    rest = window[index + 1 : index + 1 + _REST_AFTER_SPACE_CHARS]
    if _PAUSES_SOON.search(rest):
        return False
    if len(rest) < _REST_AFTER_SPACE_CHARS:
        return False if closed else None
    before = window[:index].rsplit(None, 1)[-1].lower()
    leans = _leans_on_next(before, table) and index < _DESPERATE_FROM_CHARS
    if leans or (before[-1].isdigit() and rest[0].isdigit()):
        return False
    word = rest.split()[0].lower()
    return (
        word in table.conjunctions
        or (index >= _PREPOSITION_FROM_CHARS and word in table.prepositions)
        or index >= _ANY_SPACE_FROM_CHARS
    )
