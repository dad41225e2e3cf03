"""Whether the latest codes of a model repeat those shortly before them, counted code by code."""

from __future__ import annotations

from collections import deque

NEVER = -1


class RepetitionWindow:
    """Counts how many of the ``window`` latest codes repeat the code one to ``periods`` earlier.

    Where ``share`` of them do so at one and the same distance, the period, that is a loop.
    ``length`` is how many codes there were.

    One integer holds all counters, a field of bits for each period, so that a code costs the same
    few additions however many periods there are. A code looks up where it was last, with the
    periods at which it was before that: most codes were nowhere, and add nothing.
    """

    def __init__(self, window: int, periods: int, share: float) -> None:
        self._window, self._periods = window, periods
        self._bits = window.bit_length() + 1
        ones = sum(1 << self._bits * period for period in range(periods))
        self._all = (1 << self._bits * periods) - 1
        self._top = ones << self._bits - 1
        least = next(count for count in range(window + 1) if count / window >= share)
        self._lift = ones * ((1 << self._bits - 1) - least)  # `least` then reaches the top bit
        self._counts = 0
        self.length = 0
        self._repeats = deque([0] * window, window)
        self._recent = deque([NEVER] * periods, periods)
        self._seen: dict[int, tuple[int, int]] = {}

    def add(self, code: int) -> None:
        """Take the next code, 0 or more."""
        at = self.length
        self.length = at + 1
        seen = self._seen
        oldest = self._recent[0]
        self._recent.append(code)
        repeats, found = 0, seen.get(code)
        if found is not None:
            last, earlier = found
            repeats = (earlier << self._bits * (at - last - 1)) & self._all
        seen[code] = at, repeats << self._bits | 1
        if oldest != NEVER and seen[oldest][0] == at - self._periods:
            del seen[oldest]  # too long ago for any period
        self._counts += repeats - self._repeats[0]
        self._repeats.append(repeats)

    @property
    def looping(self) -> bool:
        """Whether any period is a loop; not before every one of them had a whole window."""
        if self.length < self._window + self._periods:
            return False
        return bool((self._counts + self._lift) & self._top)
