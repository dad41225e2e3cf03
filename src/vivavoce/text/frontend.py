"""From what was written to clauses that can be spoken, lazily and piece by piece.

Order of work: segment the raw text, then for each piece neutralise, lexicon, normalise. Nothing
is done for a piece before it is asked for, so the first clause costs the same in a text of any
length.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from vivavoce.errors import InputError
from vivavoce.text.boundaries import ENDS
from vivavoce.text.lexicon import Lexicon
from vivavoce.text.neutralise import defuse, neutralise
from vivavoce.text.segment import Piece, Segmenter
from vivavoce.text.ssml import MAX_BREAK_MS, Break, Fixed, SsmlItem, TextRun, parse_ssml
from vivavoce.types import Clause, ClauseEnd, Span

Normalise: TypeAlias = Callable[[str, str | None], str]
"""``(clause, language) -> clause as it is spoken``."""

_BLOCK_CHARS = 256
# Fixed parts of SSML travel through the segmenter as one private-use character each; the same
# characters in user text are removed by ``neutralise``.
_FIRST_MARK = 0xF0000
_MAX_MARKS = 0xFFFD
_MARK = re.compile("([\U000f0000-\U000ffffd])")
_PUNCTUATION_ONLY = re.compile(r"[\s.,;:!?'\"’“”()…—–-]*")
_LEAD = re.compile(r"(?:[.,;:!?)…]+(?=\s))?\s*")
_STRENGTH: dict[ClauseEnd, int] = {"clause": 0, "sentence": 1, "paragraph": 2}


@dataclass(frozen=True)
class TextOptions:
    """How to read a text. ``start_soon``: the first clause may be a part of a sentence."""

    language: str | None = None
    normalize: bool = True
    ssml: bool = False
    lexicon: Lexicon = field(default_factory=Lexicon)
    start_soon: bool = True


def is_speakable(text: str) -> bool:
    """Whether there is a letter or digit in it, of any script."""
    return any(map(str.isalnum, text))


def clauses(
    text: str, options: TextOptions, *, normalise: Normalise | None = None
) -> Iterator[Clause]:
    """The clauses of a whole text, each made when it is asked for.

    ``normalise`` replaces the project's own normaliser. Plain text never raises; with
    ``options.ssml`` the first ``next`` raises InputError for SSML that cannot be spoken.
    """
    renderer = _Renderer(options, normalise)
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

    def __init__(self, options: TextOptions, *, normalise: Normalise | None = None) -> None:
        if options.ssml:
            raise InputError("SSML cannot be sent in pieces.", param="ssml")
        self._renderer = _Renderer(options, normalise)
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

    def __init__(self, options: TextOptions, normalise: Normalise | None) -> None:
        self._options = options
        self._normalise = normalise

    def clauses(self, pieces: Iterable[Piece], fixed: Sequence[Fixed] = ()) -> Iterator[Clause]:
        """One clause a piece; pieces that hold nothing speakable are left out."""
        for piece in pieces:
            clause = self.clause(piece, fixed)
            if clause.spans:
                yield clause

    def clause(
        self, piece: Piece, fixed: Sequence[Fixed] = (), pause_ms: float | None = None
    ) -> Clause:
        """The clause of a piece, without spans if nothing in it can be spoken.

        ``fixed`` are the parts that marks in the piece stand for; such a piece is neutral already.
        """
        text = piece.text if fixed else neutralise(piece.text)
        text = " ".join(text.split())
        spans = _joined(self._spans(text, fixed))
        if not any(is_speakable(span.ipa or span.text) for span in spans):
            spans = ()
        source = _MARK.sub(lambda mark: _fixed_at(fixed, mark[0]).source, text) if fixed else text
        return Clause(spans, source, piece.end, pause_ms)

    def _spans(self, text: str, fixed: Sequence[Fixed]) -> Iterator[Span]:
        for part in _MARK.split(text) if fixed else (text,):
            if fixed and _MARK.fullmatch(part):
                found = _fixed_at(fixed, part)
                yield Span(found.spoken, found.ipa)
                continue
            for span in self._options.lexicon.apply(part):
                yield span if span.ipa else Span(self._spoken(span.text))

    def _spoken(self, text: str) -> str:
        """Normalise, keeping what parts this span from its neighbours: spaces and punctuation."""
        lead = _LEAD.match(text)
        start = lead.end() if lead else 0
        core = text[start:].rstrip()
        if not self._options.normalize or _PUNCTUATION_ONLY.fullmatch(core):
            return text
        if self._normalise is None:
            from vivavoce.text.normalise import normalise

            self._normalise = normalise
        spoken = self._normalise(core, self._options.language)
        return text[:start] + spoken + text[start + len(core) :]


def _fixed_at(fixed: Sequence[Fixed], mark: str) -> Fixed:
    return fixed[ord(mark) - _FIRST_MARK]


def _joined(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Join neighbours without pronunciation, trim the edges, and leave no control token."""
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
    """Normalising and joining can build a control token anew; take its brackets away."""
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
        clause = renderer.clause(Piece(last.text, end), fixed, run.pause_ms)
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
