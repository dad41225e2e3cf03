"""The clauses of a request, and the sources that a pipeline takes them from.

A source may say "not yet": a text may be there whole, or arrive in pieces. It is asked for a clause
by a plain call, and calls back when there is one, so that who takes from it needs no task that
waits.

An ordinary text costs its first clause, a fraction of a millisecond, and is read on as it is
spoken. What takes longer is done beside the event loop: a large lexicon of the request's own, SSML
(which is read whole), and a text that could grow beyond the limit, which is then spoken out whole
before its first sound so that it is refused rather than cut.
"""

from __future__ import annotations

import asyncio
import collections
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

from vivavoce.errors import EmptyInput
from vivavoce.speech.request import Prepared
from vivavoce.text import Frontend, Lexicon, TextOptions, clauses, grouped
from vivavoce.text.growth import may_exceed
from vivavoce.types import Clause, SpeechRequest

MAX_GROWTH = 4
"""How many times the limit of characters a text may have as it is spoken."""

QUICK_ENTRIES = 32
QUICK_SSML_CHARS = 500
BREATH_S = 50e-6

_thread = ThreadPoolExecutor(1, "vivavoce-text")


@dataclass(frozen=True, slots=True)
class Wording:
    """How the texts of a service are read: its own lexicon, and the limit of written characters."""

    normalize: bool
    lexicon: Lexicon
    max_input_chars: int

    async def clauses(self, prepared: Prepared) -> Iterator[Clause]:
        """The clauses of a request, the first one made already; later ones in groups where its
        engine likes that.

        Raises EmptyInput and InputError. The iterator raises InputTooLong where a text grows too
        long although nothing in it said so.
        """
        began_s = time.monotonic()
        request = prepared.request
        if _is_quick(request) and not self._may_grow(request, options := self._options(prepared)):
            made = _begun(clauses(request.text, options))
        else:
            made = await asyncio.get_running_loop().run_in_executor(_thread, self._read, prepared)
        prepared.timings.normalize_ms = (time.monotonic() - began_s) * 1000
        return grouped(made, prepared.group_s)

    def _read(self, prepared: Prepared) -> Iterator[Clause]:
        """In the thread."""
        request, options = prepared.request, self._options(prepared)
        found = clauses(request.text, options)
        return _begun(_gently(found) if self._may_grow(request, options) else found)

    def _may_grow(self, request: SpeechRequest, options: TextOptions) -> bool:
        """Whether it may grow beyond the limit, so that all of it must be known first."""
        limit, growth = self._max_spoken_chars, options.lexicon.growth
        return may_exceed(request.text, limit, lexicon_growth=growth, ssml=request.ssml)

    @property
    def _max_spoken_chars(self) -> int:
        return MAX_GROWTH * self.max_input_chars

    def _options(self, prepared: Prepared) -> TextOptions:
        request = prepared.request
        return TextOptions(
            prepared.language,
            request.normalize and self.normalize,
            request.ssml,
            self.lexicon.merged(request.lexicon),
            max_spoken_chars=self._max_spoken_chars,
        )


def warm_text_up() -> None:
    """Patterns are compiled at their first use, and threads begin; no caller should pay for that.

    Blocks for some tens of milliseconds.
    """
    text = "Dr. Lee paid $5.20 at 4:30 pm on May 3rd, 2026."
    _thread.submit(lambda: list(clauses(text, TextOptions("en")))).result()


def _is_quick(request: SpeechRequest) -> bool:
    if len(request.lexicon) > QUICK_ENTRIES:
        return isinstance(request.lexicon, Lexicon)  # made already
    return not request.ssml or len(request.text) <= QUICK_SSML_CHARS


def _gently(lazily: Iterator[Clause]) -> Iterator[Clause]:
    """All of them, made now; whoever else needs the interpreter gets it between two."""
    made = []
    for clause in lazily:
        made.append(clause)
        time.sleep(BREATH_S)
    return iter(made)


def _begun(lazily: Iterator[Clause]) -> Iterator[Clause]:
    """The clauses, once the first that can be spoken is made. Raises EmptyInput."""
    silent: list[Clause] = []
    for clause in lazily:
        if clause.spans:
            return chain(silent, (clause,), lazily)
        silent.append(clause)
    raise EmptyInput


class ClauseSource(ABC):
    """Clauses in order, some of them later. Use it from one event loop.

    ``on_arrival`` is called when ``take`` has something new to say; whoever takes sets it.
    """

    on_arrival: Callable[[], None] | None = None

    @property
    @abstractmethod
    def ended(self) -> bool:
        """Whether no clause will come any more, after a ``take`` that gave none."""

    @abstractmethod
    def take(self) -> Clause | None:
        """The next clause; None: not yet, or never where it has ``ended``. Raises InputError."""

    async def arrival(self) -> None:  # noqa: B027 - a text that is there has nothing to wait for
        """Wait until ``take`` gives a clause, or the source has ended or was closed."""

    def close(self) -> None:
        """Nobody takes any more. Idempotent."""
        self.on_arrival = None


class WholeText(ClauseSource):
    """A text that is there: its clauses are made when they are asked for."""

    def __init__(self, clauses: Iterator[Clause]) -> None:
        self._clauses = clauses
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether the last was taken."""
        return self._ended

    def take(self) -> Clause | None:
        """The next clause; None at the end."""
        clause = next(self._clauses, None)
        self._ended = clause is None
        return clause


class TextFeed(ClauseSource):
    """A text that arrives in pieces: ``feed`` it, then ``finish``.

    Any splitting of a text gives the clauses of the whole.
    """

    def __init__(self, frontend: Frontend) -> None:
        self._frontend = frontend
        self._clauses: collections.deque[Clause] = collections.deque()
        self._finished = False
        self._arrived = asyncio.Event()

    @property
    def ended(self) -> bool:
        """Whether it is finished and all was taken."""
        return self._finished and not self._clauses

    def feed(self, text: str) -> None:
        """More text. Raises InputTooLong where all of it has grown too long."""
        self._arrive(self._frontend.feed(text))

    def finish(self) -> None:
        """No more text comes. Raises InputTooLong."""
        self._finished = True
        self._arrive(self._frontend.close())

    def take(self) -> Clause | None:
        """The next clause, if it is complete."""
        return self._clauses.popleft() if self._clauses else None

    async def arrival(self) -> None:
        """Wait until a clause is complete, or the text has ended."""
        while not self._clauses and not self._finished:
            self._arrived.clear()
            await self._arrived.wait()

    def close(self) -> None:
        """Forget what has come; whoever waits is told that the text has ended."""
        super().close()
        self._clauses.clear()
        self._arrive([], ended=True)

    def _arrive(self, clauses: list[Clause], *, ended: bool = False) -> None:
        self._clauses.extend(clauses)
        self._finished |= ended
        self._arrived.set()
        if self.on_arrival is not None:
            self.on_arrival()
