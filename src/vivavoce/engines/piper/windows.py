"""Which frames the decoder computes at once: growing windows with context on both sides."""

from __future__ import annotations

from dataclasses import dataclass

from vivavoce.engines.piper.trimming import Margins


@dataclass(frozen=True, slots=True)
class Window:
    """Frames ``start`` to ``end`` are wanted; the decoder sees ``seen_start`` to ``seen_end``."""

    start: int
    end: int
    seen_start: int
    seen_end: int

    @property
    def margins(self) -> Margins:
        """The context on both sides, in frames."""
        return Margins(self.start - self.seen_start, self.seen_end - self.end)


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """How windows grow: from ``first`` frames by ``growth`` up to ``largest``.

    Small windows give early sound, large ones waste less on context. ``context`` frames on each
    side make a window equal to the same stretch of the whole decode. The plan depends on the
    position alone, never on the clock, so that the same seed always gives the same sound.
    """

    first: int
    largest: int
    growth: float
    context: int

    def size(self, index: int) -> int:
        """How many frames window ``index`` covers; at the end of a text it may be half more."""
        if self.first >= self.largest:
            return self.largest
        size = self.first
        for _ in range(index):
            size = max(size + 1, int(size * self.growth)) if self.growth > 1 else size
            if size >= self.largest:
                return self.largest
        return size

    def window(self, index: int, start: int, frames: int) -> Window:
        """The window after ``start`` in a text of ``frames`` frames."""
        size = self.size(index)
        # A remainder smaller than half a window joins this one: its context would cost more.
        end = frames if frames - start <= size + size // 2 else start + size
        return Window(start, end, max(0, start - self.context), min(frames, end + self.context))
