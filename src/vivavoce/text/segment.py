"""Cut text into pieces to speak, while it arrives.

A boundary is decided only when enough of what follows is known: the first character after the
whitespace; after an abbreviation the whole next word; after a newline six characters; after a
clause mark of the first piece sixteen. So any splitting of a text gives the same pieces.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from vivavoce.text import boundaries
from vivavoce.text.abbreviations import abbreviations
from vivavoce.types import ClauseEnd

DEFAULT_MAX_CHARS = 300
_LOOK_AHEAD_CHARS = 32
_CJK_FACTOR = 3
"""A CJK character takes about as long to say as three letters."""

_NO_BREAK = "\xa0\u202f\u2007"
_SPACE_RUN = re.compile(r"\s+")
_ENDS = re.compile(f"[{boundaries.END_CLASS}\n]")
_ENDS_OR_MARKS = re.compile(f"[{boundaries.END_CLASS}{boundaries.MARK_CLASS}\n ]")
_ANY_MARK = re.compile(f"[{boundaries.MARK_CLASS}]")


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of raw text, whitespace collapsed, and what it ends with."""

    text: str
    end: ClauseEnd


@dataclass(frozen=True, slots=True)
class _Cut:
    index: int
    end: ClauseEnd


class Segmenter:
    """Incremental segmenter. ``feed`` text as it comes, ``close`` at its end.

    With ``first_clause`` the first piece may end at a clause mark, so that speech starts soon;
    all others are sentences, cut at clause marks, spaces or anywhere when longer than
    ``max_chars`` (a third of it for CJK text). Time is linear in the text, however it is fed.
    """

    def __init__(
        self,
        *,
        language: str | None = None,
        first_clause: bool = True,
        max_chars: int = DEFAULT_MAX_CHARS,
    ) -> None:
        self._table = abbreviations(language)
        self._first = first_clause
        self._max_chars = max(max_chars, 30)
        self._buffer = ""
        self._start = 0
        self._scanned = 0
        self._limit: int | None = None
        self._whitespace = ""

    def feed(self, text: str) -> list[Piece]:
        """Take more text; return the pieces that are complete now."""
        self._append(text)
        return self._drain(closed=False)

    def close(self) -> list[Piece]:
        """Say that the text ends here; return what is left. More text may follow as a new one."""
        pieces = self._drain(closed=True)
        rest = self._buffer[self._start :]
        self._whitespace = ""
        self._buffer = ""
        self._restart(0)
        return pieces + self._piece(rest, "sentence")

    def _append(self, text: str) -> None:
        text = self._whitespace + text
        body = text.rstrip()
        self._whitespace = _SPACE_RUN.sub(_one_space, text[len(body) :])
        if not body:
            return
        body = _SPACE_RUN.sub(_one_space, body)
        self._buffer += body if self._buffer else body.lstrip()

    def _drain(self, *, closed: bool) -> list[Piece]:
        pieces: list[Piece] = []
        while (cut := self._next_cut(closed)) is not None:
            stop = self._start + cut.index
            pieces += self._piece(self._buffer[self._start : stop], cut.end)
            while stop < len(self._buffer) and self._buffer[stop] in " \n":
                stop += 1
            self._restart(stop)
        if self._start:
            self._buffer = self._buffer[self._start :]
            self._start = 0
        return pieces

    def _restart(self, start: int) -> None:
        self._start = start
        self._scanned = 0
        self._limit = None

    def _piece(self, text: str, end: ClauseEnd) -> list[Piece]:
        text = text.replace("\n", " ").strip(" ")
        if not text:
            return []
        self._first = self._first and not any(map(str.isalnum, text))
        return [Piece(text, end)]

    def _next_cut(self, closed: bool) -> _Cut | None:
        reach = self._start + self._max_chars + _LOOK_AHEAD_CHARS
        if len(self._buffer) - self._start <= self._scanned and not closed:
            return None
        window = self._buffer[self._start : reach]
        full = len(window) == self._max_chars + _LOOK_AHEAD_CHARS
        at_end = closed and reach >= len(self._buffer)
        limit = self._piece_limit(window)
        while (index := self._next_candidate(window, limit)) is not None:
            ends = self._decide(window, index, at_end)
            if ends is None and not full and not at_end:
                self._scanned = index
                return None
            if ends:
                return self._cut_at(window, index)
            self._scanned = self._past(window, index)
        self._scanned = max(self._scanned, min(len(window), limit))
        return _forced_cut(window, limit) if len(window) > limit else None

    def _piece_limit(self, window: str) -> int:
        """``max_chars``, or a third of it once the start of the piece is known to be CJK."""
        head = self._max_chars // _CJK_FACTOR
        if self._limit is None and len(window) > head:
            found = len(boundaries.CJK_CHARACTER.findall(window, 0, head))
            self._limit = head if 2 * found > head else self._max_chars
        return self._limit or self._max_chars

    def _next_candidate(self, window: str, limit: int) -> int | None:
        pattern = _ENDS_OR_MARKS if self._first else _ENDS
        match = pattern.search(window, self._scanned)
        return match.start() if match and match.start() < limit else None

    def _decide(self, window: str, index: int, closed: bool) -> bool | None:
        mark = window[index]
        if mark == "\n":
            return boundaries.newline_ends(window, index, closed, self._table)
        if mark == " ":
            return boundaries.space_ends(window, index, closed, self._table)
        if mark in boundaries.MARKS:
            return boundaries.clause_ends(window, index, closed)
        return boundaries.sentence_ends(window, index, closed, self._table)

    def _past(self, window: str, index: int) -> int:
        if window[index] in boundaries.ENDS:
            return boundaries.run_end(window, index)
        return index + 1

    def _cut_at(self, window: str, index: int) -> _Cut:
        mark = window[index]
        if mark in boundaries.MARKS:
            return _Cut(boundaries.mark_end(window, index), "clause")
        if mark == " ":
            return _Cut(index, "clause")
        stop = index if mark == "\n" else boundaries.run_end(window, index)
        return _Cut(stop, "paragraph" if window.startswith("\n\n", stop) else "sentence")


def _one_space(run: re.Match[str]) -> str:
    """One newline, a blank line, or one space; no-break spaces stay when they stand alone."""
    text = run[0]
    newlines = text.count("\n")
    if newlines:
        return "\n\n" if newlines > 1 else "\n"
    breaking = any(character not in _NO_BREAK for character in text)
    return " " if breaking else text[0]


def _forced_cut(window: str, limit: int) -> _Cut:
    """A cut in a piece without a sentence end before ``limit``."""
    # What lies further must not count: it may not have arrived in another splitting.
    window = window[: limit + 1]
    marks = [
        match.start()
        for match in _ANY_MARK.finditer(window, limit // 3, limit)
        if boundaries.is_clause_mark(window, match.start())
    ]
    if marks:
        return _Cut(boundaries.mark_end(window, marks[-1]), "clause")
    space = max(window.rfind(" ", 1, limit), window.rfind("\n", 1, limit))
    if space > 0:
        return _Cut(space, "clause")
    return _Cut(boundaries.before_character(window, limit), "clause")
