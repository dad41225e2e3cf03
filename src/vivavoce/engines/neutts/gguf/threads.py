"""How many threads llama.cpp takes.

Its threads spin while they wait for each other: with all cores taken, one competing process makes
every token ten times slower. How much a further thread helps depends on the machine: where one core
can draw all that memory gives, a token is no sooner with two; elsewhere it takes half the time.
So a token's threads are chosen by what they were lately measured to do, and are few while the codec
computes beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

MOST_DECODE_THREADS, MOST_PREFILL_THREADS = 4, 8


@dataclass(frozen=True, slots=True)
class Threads:
    """``decode`` for tokens, ``prefill`` for prompts while no row speaks.

    ``decode_most`` is what tokens may take while nothing else computes, where that is measured to
    be sooner; 0: never more than ``decode``.
    """

    decode: int
    prefill: int
    decode_most: int = 0


def default_threads(cores: int) -> Threads:
    """Half the cores for tokens, all but one for prompts (of two cores both)."""
    decode = max(1, min(cores // 2, MOST_DECODE_THREADS))
    prefill = min(cores, max(2, min(cores - 1, MOST_PREFILL_THREADS)))
    return Threads(decode, prefill, max(decode, min(2 * decode, prefill)))


TRIALS = 3
"""Steps that a number of threads is tried for; the quickest of them counts."""

FIRST_TRUST, LONGEST_TRUST = 64, 2048
"""Steps until the other number is tried again, at first and at most."""

SLOWER = 1.5
"""Trust ends where ``TRIALS`` steps running take this much of what the other number took."""


class DecodeThreads:
    """Chooses between few and most threads for a step of ``rows`` tokens, by measured times.

    Both are tried, the quicker one is kept, and the other tried again ever more rarely, so that a
    machine that has become busy costs a few slow steps and no more.
    """

    def __init__(self, threads: Threads) -> None:
        self._few = threads.decode
        self._most = max(threads.decode, threads.decode_most)
        self._trials: dict[int, _Trial] = {}

    def choose(self, rows: int, *, codec_runs: bool) -> int:
        """Threads of the next step."""
        if codec_runs or self._few == self._most:
            return self._few
        return self._most if self._trial(rows).most_next else self._few

    def took(self, rows: int, spent_s: float, *, codec_runs: bool) -> None:
        """How long the step took for which a number was chosen."""
        if not codec_runs and self._few != self._most:
            self._trial(rows).took(spent_s)

    def _trial(self, rows: int) -> _Trial:
        return self._trials.setdefault(rows, _Trial())


class _Trial:
    """One choice between few and most threads; ``most_next`` is what comes next."""

    def __init__(self) -> None:
        self.most_next = True
        self._best_s = [float("inf"), float("inf")]
        self._left = TRIALS
        self._trying = 2
        self._winner = True
        self._trust = FIRST_TRUST
        self._slow = 0

    def took(self, spent_s: float) -> None:
        now = int(self.most_next)
        if self._trying == 0:
            self._doubt(spent_s > SLOWER * self._best_s[1 - now])
        self._best_s[now] = min(self._best_s[now], spent_s)
        self._left -= 1
        if self._left:
            return
        self._trying -= 1
        if self._trying > 0:
            self._try(not self.most_next)
        elif self._trying == 0:
            self._settle()
        else:
            self._try(not self._winner, anew=True)

    def _doubt(self, slow: bool) -> None:
        """Try anew where a trusted number is slower than the other one was, step after step."""
        self._slow = self._slow + 1 if slow else 0
        if self._slow == TRIALS:
            self._slow, self._trust, self._left = 0, FIRST_TRUST, 1

    def _try(self, most: bool, *, anew: bool = False) -> None:
        if anew:
            self._best_s = [float("inf"), float("inf")]
            self._trying = 2
        self.most_next, self._left = most, TRIALS

    def _settle(self) -> None:
        winner = self._best_s[1] < self._best_s[0]
        again = winner == self._winner
        self._trust = min(2 * self._trust, LONGEST_TRUST) if again else FIRST_TRUST
        self._winner = self.most_next = winner
        self._left = self._trust
        self._slow = 0
