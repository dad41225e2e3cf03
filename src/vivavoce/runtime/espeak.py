"""espeak-ng as the engines share it: in a process of its own, which may die of a text.

espeak-ng is written in C, with global state and buffers of fixed sizes (160 bytes for a word, 80
for an abbreviation with dots: ``N_WORD_BYTES`` in its ``translate.h``, ``CheckDottedAbbrev`` in its
``translateword.c``), and the version in piper-tts does not look everywhere whether they suffice:
"A.A.A." a hundred times ends the process. The kinds of text that are known to do so are cut, so
that they can be spoken; of a kind that is not known yet the process dies, that text is refused, and
the next one finds a new process.
"""

from __future__ import annotations

import importlib.util
import json
import re
import unicodedata
from contextlib import suppress
from importlib.metadata import version
from typing import NamedTuple

from vivavoce.errors import InputError, MissingExtra, ModelFileError, WorkerDied
from vivavoce.runtime.resident import ResidentWorker
from vivavoce.runtime.worker_child import Bounds

BOUNDS = Bounds(
    memory_bytes=256 * 1024**2,
    cpu_s=1,
    wall_s=5,
    request_bytes=1024**2,
    answer_bytes=4 * 1024**2,
)
"""For one text; a clause takes a millisecond, and whoever else has a text waits for it."""

MAX_SPELLED_CHARS = 20
"""A run with marks in it is cut after the first mark that far from its beginning."""

MAX_WORD_CHARS = 100
"""A run of letters is cut there; the longest words of dictionaries are shorter."""

MAX_DOTTED_LETTERS = 12
"""Of an abbreviation; a letter has up to four bytes, and one of two may be added to each."""

_DOTTED = re.compile(rf"(?:[^\W\d_]\s*\.\s*){{{MAX_DOTTED_LETTERS}}}(?=[^\W\d_]\s*\.)")
_LONG_RUN = re.compile(rf"\S{{{MAX_SPELLED_CHARS + 1},}}")

_UNSPEAKABLE: dict[int, str | None] = {
    **dict.fromkeys((*range(32), *range(127, 160), *range(0xD800, 0xE000))),
    **dict.fromkeys(map(ord, "\n\r\t\v\f\x85"), " "),
}
"""Control characters and lone surrogates, which the bridge cannot take."""


class SpokenClause(NamedTuple):
    """A stretch up to a mark: IPA, the mark, and whether a sentence ends there."""

    phonemes: str
    mark: str
    ends_sentence: bool


_worker = ResidentWorker("vivavoce.runtime.espeak_child", BOUNDS)


def start_espeak() -> None:
    """Begin to start the process, so that the first text need not wait. Raises MissingExtra."""
    if importlib.util.find_spec("piper") is None:
        raise MissingExtra("espeak-ng", "piper")
    _worker.start()


def spoken_clauses(text: str, voice: str) -> list[SpokenClause]:
    """espeak-ng's phonemes of ``text`` (see ``speakable``) in one of its voices.

    Raises InputError for a text that ends the process, ModelFileError where espeak-ng lacks the
    voice.
    """
    request = json.dumps([voice, text]).encode()
    try:
        # A process may also die of what a text before this one has done to its memory, or be killed
        # by the system: only what ends a new one as well is at fault.
        with suppress(WorkerDied):
            return _read(_worker.ask(request), voice)
        return _read(_worker.ask(request), voice)
    except WorkerDied as error:
        raise InputError("espeak-ng cannot speak this text.", param="input") from error


def _read(answer: bytes, voice: str) -> list[SpokenClause]:
    said = json.loads(answer)
    if isinstance(said, str):
        raise ModelFileError(f"espeak-ng cannot speak {voice!r}: {said}")
    return [SpokenClause(*clause) for clause in said]


def speakable(text: str) -> str:
    """``text`` as espeak-ng can take it: without control characters and without endless words."""
    text = text.translate(_UNSPEAKABLE)
    # A letter without its dot ends an abbreviation.
    text = _DOTTED.sub(lambda run: run[0].rstrip()[:-1] + " ", text)
    return _LONG_RUN.sub(_cut, text)


def _cut(run: re.Match[str]) -> str:
    cut, length = [], 0
    for char, following in zip(run[0], run[0][1:] + " ", strict=True):
        cut.append(char)
        length += 1
        if length >= MAX_WORD_CHARS or (
            length >= MAX_SPELLED_CHARS and _is_mark(char) and not following.isdigit()
        ):
            cut.append(" ")
            length = 0
    return "".join(cut).rstrip()


def _is_mark(char: str) -> bool:
    """Whether a word may end there; vowel signs and accents (category M) are of their letter."""
    return unicodedata.category(char)[0] not in "LMN"


def espeak_version() -> str:
    """The package that brings espeak-ng; its bridge does not tell espeak-ng's own version."""
    return f"piper-tts {version('piper-tts')}"
