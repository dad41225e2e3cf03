"""A clause that is too long for the context is spoken in parts, cut where it hurts least."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from vivavoce.types import Span

Spans: TypeAlias = tuple[Span, ...]

_CUTS = tuple(
    re.compile(pattern) for pattern in (r"[.!?…]+[\"'”’»)\]]*\s+", r"[;:—–]+\s+|,\s+", r"\s+")
)
"""Where a text may be cut, the best kinds first; after the match."""

REACH = 0.5
"""A cut of a better kind is taken where it leaves at least this share of half a text."""


def parts_that_fit(spans: Sequence[Span], fits: Callable[[Spans], bool]) -> list[Spans]:
    """``spans`` in as few halvings as needed; a word that does not fit stays as it is."""
    whole = tuple(spans)
    if fits(whole):
        return [whole]
    at = _best_cut(whole)
    if at is None:
        return [whole]
    return [part for half in _cut(whole, at) for part in parts_that_fit(half, fits)]


def _best_cut(spans: Spans) -> int | None:
    """The offset in the joined text nearest to its middle, of the best kind that is near it."""
    text = "".join(span.text for span in spans)
    free = [at for at in range(len(text)) if text[at].isspace()]
    if not free:
        return None
    middle = len(text) / 2
    for kind in _CUTS:
        ends = [at for at in _ends(kind, text, spans) if 0 < at < len(text)]
        if not ends:
            continue
        nearest = min(ends, key=lambda at: abs(at - middle))
        if abs(nearest - middle) <= middle * REACH or kind is _CUTS[-1]:
            return nearest
    return None


def _ends(kind: re.Pattern[str], text: str, spans: Spans) -> Iterator[int]:
    """Where a kind's matches end, outside of given pronunciations."""
    taken, start = [], 0
    for span in spans:
        stop = start + len(span.text)
        if span.ipa is not None:
            taken.append((start, stop))
        start = stop
    for found in kind.finditer(text):
        at = found.end()
        if not any(start < at < stop for start, stop in taken):
            yield at


def _cut(spans: Spans, at: int) -> tuple[Spans, Spans]:
    before: list[Span] = []
    after: list[Span] = []
    start = 0
    for span in spans:
        stop = start + len(span.text)
        if stop <= at:
            before.append(span)
        elif start >= at:
            after.append(span)
        else:
            before.append(Span(span.text[: at - start]))
            after.append(Span(span.text[at - start :]))
        start = stop
    return tuple(before), tuple(after)
