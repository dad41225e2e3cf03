"""From what was written to clauses that can be spoken, lazily and piece by piece.

Order of work: segment the raw text, then for each piece sanitize, lexicon, normalize; what has
grown beyond the length of a clause is cut again, before it is normalized and after. Nothing is done
for a piece before it is asked for, so the first clause costs the same in a text of any length.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from vivavoce.errors import InputError, InputTooLong
from vivavoce.text.boundaries import ENDS
from vivavoce.text.fit import Part, fitted
from vivavoce.text.lexicon import Lexicon
from vivavoce.text.sanitize import defuse, sanitize
from vivavoce.text.segment import Piece, Segmenter
from vivavoce.text.ssml import MAX_BREAK_MS, Break, Fixed, SsmlItem, TextRun, parse_ssml
from vivavoce.types import Clause, ClauseEnd, Span

Normalize: TypeAlias = Callable[[str, str | None], str]
"""``(clause, language) -> clause as it is spoken``."""

_BLOCK_CHARS = 256
# Fixed parts of SSML travel through the segmenter as one private-use character each; the same
# characters in user text are removed by ``sanitize``.
_FIRST_MARK = 0xF0000
_MAX_MARKS = 0xFFFD
_MARK = re.compile("([\U000f0000-\U000ffffd])")
_PUNCTUATION_ONLY = re.compile(r"[\s.,;:!?'\"’“”()…—–-]*")
_LEAD = re.compile(r"(?:[.,;:!?)…]+(?=\s))?\s*")
_STRENGTH: dict[ClauseEnd, int] = {"clause": 0, "sentence": 1, "paragraph": 2}


@dataclass(frozen=True)
class TextOptions:
    """How to read a text. ``start_soon``: the first clause may be a part of a sentence.

    ``max_spoken_chars`` bounds what all of it may grow to, as it is spoken; None: no bound.
    """

    language: str | None = None
    normalize: bool = True
    ssml: bool = False
    lexicon: Lexicon = field(default_factory=Lexicon)
    start_soon: bool = True
    max_spoken_chars: int | None = None


def is_speakable(text: str) -> bool:
    """Whether there is a letter or digit in it, of any script."""
    return any(map(str.isalnum, text))


def clauses(
    text: str, options: TextOptions, *, normalize: Normalize | None = None
) -> Iterator[Clause]:
    """The clauses of a whole text, each made when it is asked for.

    No clause has more than ``fit.MAX_SPOKEN_CHARS`` characters as it is spoken. ``normalize``
    replaces the project's own normalizer. With ``options.ssml`` the first ``next`` raises
    InputError for SSML that cannot be spoken. Plain text raises nothing but InputTooLong, once it
    has grown beyond ``options.max_spoken_chars``.
    """
    renderer = _Renderer(options, normalize)
    if options.ssml:
        yield from _ssml_clauses(text, options, renderer)
        return
    segmenter = Segmenter(language=options.language, first_clause=options.start_soon)
    for piece in _pieces(text, segmenter):
        yield from renderer.clauses((piece,))


class Frontend:
    """The same for plain text that arrives in pieces: ``feed`` it, then ``close``.

    Any splitting of a text gives the clauses that ``clauses`` gives for the whole.
    """

    def __init__(self, options: TextOptions, *, normalize: Normalize | None = None) -> None:
        if options.ssml:
            raise InputError("SSML cannot be sent in pieces.", param="ssml")
        self._renderer = _Renderer(options, normalize)
        self._segmenter = Segmenter(language=options.language, first_clause=options.start_soon)

    def feed(self, text: str) -> list[Clause]:
        """Take more text; return the clauses that are complete now."""
        return list(self._renderer.clauses(self._segmenter.feed(text)))

    def close(self) -> list[Clause]:
        """Say that the text ends here; return the clauses that are left."""
        return list(self._renderer.clauses(self._segmenter.close()))


def _pieces(text: str, segmenter: Segmenter) -> Iterator[Piece]:
    for at in range(0, len(text), _BLOCK_CHARS):
        yield from segmenter.feed(text[at : at + _BLOCK_CHARS])
    yield from segmenter.close()


class _Renderer:
    """Turns pieces into clauses."""

    def __init__(self, options: TextOptions, normalize: Normalize | None) -> None:
        self._options = options
        self._normalize = normalize
        self._spoken_chars = 0

    def clauses(self, pieces: Iterable[Piece], fixed: Sequence[Fixed] = ()) -> Iterator[Clause]:
        """The clauses of pieces; pieces that hold nothing speakable are left out."""
        for piece in pieces:
            for clause in self.clauses_of(piece, fixed):
                if clause.spans:
                    yield clause

    def clauses_of(
        self, piece: Piece, fixed: Sequence[Fixed] = (), pause_ms: float | None = None
    ) -> Iterator[Clause]:
        """The clauses of a piece: one, or several where it grows too long for one.

        The first has the piece's source, the last its end and pause; it is without spans if
        nothing in the piece can be spoken. ``fixed`` are the parts that marks in the piece stand
        for; such a piece is neutral already.
        """
        text = piece.text if fixed else sanitize(piece.text)
        text = " ".join(text.split())
        source = _MARK.sub(lambda mark: _fixed_at(fixed, mark[0]).source, text) if fixed else text
        spans: tuple[Span, ...] = ()
        for following in self._runs(text, fixed):
            if spans:
                yield Clause(spans, source, "clause")
                source = ""
            spans = following
        yield Clause(spans, source, piece.end, pause_ms)

    def _runs(self, text: str, fixed: Sequence[Fixed]) -> Iterator[tuple[Span, ...]]:
        """What can be spoken of a piece, in runs that are no longer than a clause."""
        for written in fitted(list(self._written(text, fixed))):
            spoken = _joined(map(self._span, written))
            for run in fitted([Part(span.text, span.ipa) for span in spoken]):
                spans = _joined(Span(part.text, part.ipa) for part in run)
                if any(is_speakable(span.ipa or span.text) for span in spans):
                    self._count(spans)
                    yield spans

    def _written(self, text: str, fixed: Sequence[Fixed]) -> Iterator[Part]:
        """The text with fixed parts in the place of their marks, and with the lexicon's words."""
        for piece in _MARK.split(text) if fixed else (text,):
            if fixed and _MARK.fullmatch(piece):
                found = _fixed_at(fixed, piece)
                yield Part(found.spoken, found.ipa, settled=True)
                continue
            for span in self._options.lexicon.apply(piece):
                yield Part(span.text, span.ipa, settled=bool(span.ipa))

    def _span(self, part: Part) -> Span:
        return Span(part.text if part.settled else self._spoken(part.text), part.ipa)

    def _count(self, spans: Sequence[Span]) -> None:
        self._spoken_chars += sum(Part(span.text, span.ipa).size for span in spans)
        limit = self._options.max_spoken_chars
        if limit is not None and self._spoken_chars > limit:
            raise InputTooLong(self._spoken_chars, limit, spoken=True)

    def _spoken(self, text: str) -> str:
        """Normalize, keeping what parts this span from its neighbors: spaces and punctuation."""
        lead = _LEAD.match(text)
        start = lead.end() if lead else 0
        core = text[start:].rstrip()
        if not self._options.normalize or _PUNCTUATION_ONLY.fullmatch(core):
            return text
        if self._normalize is None:
            from vivavoce.text.english import normalize

            self._normalize = normalize
        spoken = self._normalize(core, self._options.language)
        return text[:start] + spoken + text[start + len(core) :]


def _fixed_at(fixed: Sequence[Fixed], mark: str) -> Fixed:
    return fixed[ord(mark) - _FIRST_MARK]


def _joined(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Join neighbors without pronunciation, trim the edges, and leave no control token."""
    joined: list[Span] = []
    for span in spans:
        if joined and span.ipa is None and joined[-1].ipa is None:
            joined[-1] = Span(joined[-1].text + span.text)
        elif span.text or span.ipa:
            joined.append(span)
    if joined and joined[0].ipa is None:
        joined[0] = Span(joined[0].text.lstrip())
    if joined and joined[-1].ipa is None:
        joined[-1] = Span(joined[-1].text.rstrip())
    return _defused([span for span in joined if span.text or span.ipa])


def _defused(spans: list[Span]) -> tuple[Span, ...]:
    """Normalizing and joining can build a control token anew; take its brackets away."""
    whole = "".join(span.text for span in spans)
    if defuse(whole) == whole:
        return tuple(spans)
    harmless = str.maketrans("<>|｜[]", "      ")
    cleaned = (Span(" ".join(defuse(s.text).translate(harmless).split()), s.ipa) for s in spans)
    return tuple(span for span in cleaned if span.text or span.ipa)


@dataclass(slots=True)
class _Run:
    """SSML text between two breaks, with marks for fixed parts, and the break after it."""

    text: str = ""
    pause_ms: float | None = None
    end: ClauseEnd = "clause"
    ended: bool = False


def _ssml_clauses(text: str, options: TextOptions, renderer: _Renderer) -> Iterator[Clause]:
    fixed: list[Fixed] = []
    segmenter = Segmenter(language=options.language, first_clause=options.start_soon)
    for run in _runs(parse_ssml(text, options.language), fixed):
        for at in range(0, len(run.text), _BLOCK_CHARS):
            yield from renderer.clauses(segmenter.feed(run.text[at : at + _BLOCK_CHARS]), fixed)
        # The last piece always waits for what follows, so it is among those of close().
        *pieces, last = segmenter.close() or [Piece("", run.end)]
        yield from renderer.clauses(pieces, fixed)
        end: ClauseEnd = _end_of(last, run) if run.ended else last.end
        for clause in renderer.clauses_of(Piece(last.text, end), fixed, run.pause_ms):
            if clause.spans or clause.pause_ms is not None:
                yield clause


def _end_of(last: Piece, run: _Run) -> ClauseEnd:
    if run.end == "clause" and last.text.rstrip("\"'”’)»").endswith(tuple(ENDS)):
        return "sentence"
    return run.end


def _runs(items: Sequence[SsmlItem], fixed: list[Fixed]) -> Iterator[_Run]:
    """Gather items into runs; breaks that follow each other are added up."""
    gathered = [_Run()]
    for item in items:
        run = gathered[-1]
        if isinstance(item, Break):
            _end_run(run, item)
            continue
        addition = item.text if isinstance(item, TextRun) else _mark_for(item, fixed)
        if run.ended and addition.strip():
            gathered.append(_Run(addition))
        elif not run.ended:
            run.text += addition
    return iter(gathered)


def _end_run(run: _Run, item: Break) -> None:
    run.ended = True
    if _STRENGTH[item.end] > _STRENGTH[run.end]:
        run.end = item.end
    if item.pause_ms is not None:
        run.pause_ms = min((run.pause_ms or 0.0) + item.pause_ms, MAX_BREAK_MS)


def _mark_for(item: Fixed, fixed: list[Fixed]) -> str:
    if len(fixed) >= _MAX_MARKS:
        raise InputError(f"SSML: more than {_MAX_MARKS} spans.", param="input")
    fixed.append(item)
    return chr(_FIRST_MARK + len(fixed) - 1)
