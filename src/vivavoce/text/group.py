"""Clauses gathered into groups, for engines that read a voice's recording again with every prompt.

A short clause makes an engine quick to begin only where a clause is computed as a whole. A model
that makes one token at a time begins as soon with a long text, reads its prompt once for all of it,
and keeps one voice and one melody from a sentence to the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from vivavoce.errors import VivavoceError
from vivavoce.text.boundaries import ENDS, UNSPACED_ENDS, UNSPACED_MARKS
from vivavoce.text.duration import expected_duration_s
from vivavoce.text.fit import MAX_SPOKEN_CHARS, Part
from vivavoce.types import Clause, Span

GROWTH = 2.0
"""A group is at most so many times as long as the one before it: its prompt is read while the rest
of that one is heard, and a longer prompt takes longer to read."""

SHORT_S = 8.0
"""A group may always be so long: a short one leaves too little to be heard while the next prompt is
read."""

_CLOSERS = "\"'”’»)]}」』）】"


def grouped(clauses: Iterator[Clause], longest_s: float) -> Iterator[Clause]:
    """The clauses, gathered into groups of about ``longest_s`` seconds of speech at most.

    The first clause stays alone, so that it is opened as soon as it is there. A group has at most
    ``MAX_SPOKEN_CHARS`` characters as it is spoken, like a clause, and ends before a clause that
    would make it too long, after a paragraph, after an explicit pause, and after a sentence without
    a mark at its end (a heading): a model would read on without a pause. With ``longest_s`` 0
    nothing is gathered. What ``clauses`` raises is raised after the group that came before it.
    """
    if longest_s <= 0:
        yield from clauses
        return
    group = _Group(0.0)
    while True:
        try:
            clause = next(clauses, None)
        except VivavoceError:
            if group.clauses:
                yield group.joined()
            raise
        if clause is None:
            break
        if group.clauses and not group.takes(clause):
            yield group.joined()
            group = _Group(min(longest_s, max(SHORT_S, GROWTH * group.speech_s)))
        group.add(clause)
        if group.limit_s == 0.0:
            yield group.joined()
            group = _Group(min(longest_s, max(SHORT_S, GROWTH * group.speech_s)))
    if group.clauses:
        yield group.joined()


@dataclass(slots=True)
class _Group:
    """Clauses that are spoken as one, of at most ``limit_s`` seconds; 0: of one clause."""

    limit_s: float
    clauses: list[Clause] = field(default_factory=list)
    chars: int = 0
    speech_s: float = 0.0

    def takes(self, clause: Clause) -> bool:
        """Whether a clause may be spoken in one breath with those that are here."""
        return (
            _goes_on(self.clauses[-1])
            and bool(clause.spans)
            and self.chars + 1 + _size(clause) <= MAX_SPOKEN_CHARS
            and self.speech_s + expected_duration_s(clause.text) <= self.limit_s
        )

    def add(self, clause: Clause) -> None:
        self.clauses.append(clause)
        self.chars += 1 + _size(clause)
        self.speech_s += expected_duration_s(clause.text)

    def joined(self) -> Clause:
        """All of them as one clause, with the end and the pause of the last."""
        if len(self.clauses) == 1:
            return self.clauses[0]
        spans: tuple[Span, ...] = ()
        for clause in self.clauses:
            spans = _followed(spans, clause.spans) if spans else clause.spans
        source = " ".join(clause.source for clause in self.clauses if clause.source)
        return replace(self.clauses[-1], spans=spans, source=source)


def _size(clause: Clause) -> int:
    return sum(Part(span.text, span.ipa).size for span in clause.spans)


def _goes_on(clause: Clause) -> bool:
    """Whether the next clause may follow without a pause of ours."""
    if not clause.spans or clause.pause_ms is not None or clause.end == "paragraph":
        return False
    return clause.end == "clause" or _last_mark(clause.text) in ENDS


def _last_mark(text: str) -> str:
    return text.rstrip(_CLOSERS + " ")[-1:] or " "


def _followed(first: tuple[Span, ...], second: tuple[Span, ...]) -> tuple[Span, ...]:
    """Two runs of spans as one, with the space between them that belongs there."""
    last, head = first[-1], second[0]
    gap = "" if _last_mark(last.text) in UNSPACED_ENDS + UNSPACED_MARKS else " "
    if last.ipa is None and head.ipa is None:
        return (*first[:-1], Span(last.text + gap + head.text), *second[1:])
    if last.ipa is None:
        return (*first[:-1], Span(last.text + gap), *second)
    if head.ipa is None:
        return (*first, Span(gap + head.text), *second[1:])
    return (*first, Span(gap), *second) if gap else first + second
