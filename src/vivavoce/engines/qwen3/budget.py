"""How many rows fit into a GPU's memory, and the sum that says so.

Everything a call needs is taken before the first one: weights, rows, what is kept of voices, and
room for the rest. At the end of a load what is planned here is compared with what was really taken,
and what is left of it is held (``memory``).
"""

from __future__ import annotations

from dataclasses import dataclass

from vivavoce.errors import SetupError

MIB = 1024 * 1024

SMALL_CARD_BYTES = 12_000_000_000
SMALL_CARD_ROWS = 4
"""A card (or a budget) smaller than that is shared or slow: it gets so many rows unless more are
asked for."""

FREE_SHARE = 0.1
"""Of the card, left free for others where no budget says how much may be taken."""

KEPT_PROMPTS_BYTES = 64 * MIB
"""Beginnings of prompts that stay on the device."""

KEPT_VOICES_BYTES = 64 * MIB
"""Codec states of cloned voices that stay on the device."""

PIECE_WORK_BYTES = 24 * MIB
"""What is alive at once while a piece of a prompt is read, counted at true size with attention by
its plain way. Once in the graphs' memory, once beside it."""

MEMORIES = 5
"""PyTorch keeps memory apart for each: the streams of frames and of sound, the pools of what is
captured on either, and what makes voices."""

WORKSPACE_BYTES = 32 * MIB
"""What cuBLAS works in, for each of ``MEMORIES``: PyTorch's size on Hopper, a quarter elsewhere."""

SEGMENT_BYTES = 22 * MIB
"""What PyTorch's allocator may have taken and not yet given out, for each of ``MEMORIES``: 20 MiB
for larger blocks, 2 for small ones."""

LIBRARIES_BYTES = 320 * MIB
"""Beside PyTorch's allocator: code of libraries and kernels, and graphs in the driver. Only a card
tells how much that is: it is assumed here, and the log of each load says what it was."""

WORK_BYTES = 2 * PIECE_WORK_BYTES + MEMORIES * (WORKSPACE_BYTES + SEGMENT_BYTES) + LIBRARIES_BYTES
"""Whatever rows there are."""

WORK_ROW_BYTES = 48 * MIB
"""What is alive at once for each row, counted at true size: 45 MiB of the codec at its longest
chunk, 1 of a frame, and what sound is sent through."""

CLONE_WORK_BYTES = 272 * MIB
"""What is alive at once while a voice is made of the longest recording, counted at true size: 265
MiB with the speaker encoder; the codec's needs less."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes: of all weights, and of one row of keys, values, codec state and buffers.

    ``encoders``: of those that hear recordings, which are read at the first clone; 0 of a model
    that does not clone.
    """

    weights: int
    row: int
    encoders: int = 0

    @property
    def fixed(self) -> int:
        """What is there without a row."""
        return self.weights + self.cloning + KEPT_PROMPTS_BYTES + KEPT_VOICES_BYTES + WORK_BYTES

    @property
    def cloning(self) -> int:
        """Of that, what making a voice of a recording needs, one at a time."""
        return self.encoders + CLONE_WORK_BYTES if self.encoders else 0

    def loaded(self, rows: int) -> int:
        """What weights and ``rows`` rows hold, without anything that is done with them."""
        return self.weights + rows * self.row

    def total(self, rows: int) -> int:
        """With ``rows`` of them."""
        return self.fixed + rows * (self.row + WORK_ROW_BYTES)

    def sum(self, rows: int) -> str:
        """In words, in MB of 1024 * 1024 bytes."""
        parts = (
            f"weights {_mb(self.weights)}",
            *([f"cloning {_mb(self.cloning)}"] if self.cloning else []),
            f"voices and prompts kept {_mb(KEPT_PROMPTS_BYTES + KEPT_VOICES_BYTES)}",
            f"graphs and work {_mb(WORK_BYTES)}",
            f"{rows} x {_mb(self.row + WORK_ROW_BYTES)} for rows",
        )
        return f"{' + '.join(parts)} = {_mb(self.total(rows))} MB"


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes of a card before a load: all of it, what is free, and the budget (0: none is set)."""

    total: int
    free: int
    budget: int = 0

    @property
    def most(self) -> int:
        """What may be taken."""
        return min(self.free, self.budget) if self.budget else self.free

    @property
    def usual(self) -> int:
        """What is taken if nobody asks for more: nothing is taken off a budget."""
        return self.most if self.budget else self.free - round(self.total * FREE_SHARE)

    @property
    def small(self) -> bool:
        """Whether it is shared or slow."""
        return min(self.total, self.budget or self.total) < SMALL_CARD_BYTES


def rows_in(needs: Footprint, room: Room, most: int, *, fixed: bool) -> int:
    """How many rows there are: at most ``most``, exactly so many where that is ``fixed``.

    Rows that were asked for, and the one that there has to be, may take of the tenth of a card that
    is else left free. Raises SetupError, with the sum, where they do not fit.
    """
    most = min(most, SMALL_CARD_ROWS) if room.small and not fixed else most
    least = most if fixed else 1
    if needs.total(least) <= room.usual:
        return rows_within(needs, room.usual, most, fixed=fixed)
    return rows_within(needs, room.most, least, fixed=True)


def rows_within(footprint: Footprint, budget_bytes: int, most: int, *, fixed: bool) -> int:
    """How many rows, at most ``most``, fit; exactly so many where that is ``fixed``.

    Raises SetupError, with the sum, where one row (or the fixed number) does not fit.
    """
    room = budget_bytes - footprint.fixed
    rows = min(most, room // (footprint.row + WORK_ROW_BYTES))
    least = most if fixed else 1
    if rows >= least:
        return rows
    raise SetupError(
        f"{footprint.sum(least)}, more than the {_mb(budget_bytes)} MB there are. "
        "Fewer rows (capacity), fewer positions, smaller weights (QUANTIZE=int8) or a smaller "
        "model need less.",
        param="gpu_memory_budget_mb",
    )


def _mb(size_bytes: int) -> int:
    return -(-size_bytes // MIB)
