"""Spoken text cut to the length of clauses, wherever it has grown beyond it.

The segmenter bounds a clause as it is written. A lexicon entry, ``<say-as>``, a number or a unit
can make it many times longer, and an engine takes a clause as a whole: what has grown is cut again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from vivavoce.text import boundaries

MAX_SPOKEN_CHARS = 300
"""Of one clause, as it is spoken; pronunciations count as the longer of text and IPA."""

_CJK_FACTOR = 3
"""A CJK character takes about as long to say as three letters."""

_SENTENCE_END = re.compile(f"[{boundaries.END_CLASS}][\"'”’)]*(?=\\s)|[{boundaries.UNSPACED_ENDS}]")
_ANY_MARK = re.compile(f"[{boundaries.MARK_CLASS}]")
_SPACE = re.compile(r"\s")


@dataclass(frozen=True, slots=True)
class Part:
    """A run of text with one treatment: ``ipa`` is its pronunciation, ``settled`` that it is said
    as it stands."""

    text: str
    ipa: str | None = None
    settled: bool = False

    @property
    def size(self) -> int:
        """Spoken characters."""
        return len(self.text) if self.ipa is None else max(len(self.text), len(self.ipa))


def fitted(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """The parts, gathered into runs of at most ``MAX_SPOKEN_CHARS``.

    What fits already stays as it is. Else text is cut after a sentence, at a clause mark or between
    words, into about even shares (a third as long for CJK text), and inside a word only where it is
    longer than a share.
    """
    size = sum(part.size for part in parts)
    if size <= MAX_SPOKEN_CHARS:
        yield list(parts)
        return
    limit = MAX_SPOKEN_CHARS // _CJK_FACTOR if _is_cjk(parts) else MAX_SPOKEN_CHARS
    # A long run and then a word alone would not sound like one text.
    share = min(limit, size // -(-size // limit) + limit // 6)
    taken: list[Part] = []
    room = share
    for part in _bounded(parts):
        rest = part
        while rest.size > room:
            if rest.ipa is None and (index := _cut(rest.text, room, must=not taken)):
                taken.append(replace(rest, text=rest.text[:index]))
                rest = replace(rest, text=rest.text[index:].lstrip())
            if taken:
                yield taken
            taken, room = [], share if rest.ipa is None else max(share, rest.size)
        if rest.size:
            taken.append(rest)
            room -= rest.size
    if taken:
        yield taken


def _is_cjk(parts: Sequence[Part]) -> bool:
    head = "".join(part.text for part in parts)[: MAX_SPOKEN_CHARS // _CJK_FACTOR]
    return 2 * len(boundaries.CJK_CHARACTER.findall(head)) > len(head)


def _bounded(parts: Sequence[Part]) -> Iterator[Part]:
    """The parts; a pronunciation that is longer than a clause in several, the first with the
    text."""
    for part in parts:
        text, ipa = part.text, part.ipa
        while ipa is not None and len(ipa) > MAX_SPOKEN_CHARS:
            index = _cut(ipa, MAX_SPOKEN_CHARS, must=True)
            yield Part(text, ipa[:index].rstrip())
            text, ipa = "", ipa[index:].lstrip()
        if text or ipa:
            yield replace(part, text=text, ipa=ipa)


def _cut(text: str, room: int, *, must: bool) -> int:
    """Where to cut a text that is longer than ``room``; 0 for nowhere, unless it ``must`` be."""
    window = text[: room + 1]
    ends = [found.end() for found in _SENTENCE_END.finditer(window, room // 2)]
    marks = [
        boundaries.mark_end(window, found.start())
        for found in _ANY_MARK.finditer(window, room // 3, room)
        if boundaries.is_clause_mark(window, found.start())
    ]
    spaces = [found.start() for found in _SPACE.finditer(window, 1)]
    for places in (ends, marks, spaces):
        fitting = [place for place in places if 0 < place <= room]
        if fitting:
            return fitting[-1]
    return boundaries.before_character(text, room) if must else 0
