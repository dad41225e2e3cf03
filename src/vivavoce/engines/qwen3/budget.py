"""How many rows fit into a GPU's memory, and the sum that says so.

Everything a call needs is taken before the first one: weights, rows, what is kept of voices, and
room for the rest. Nothing is left to fail in a call.
"""

from __future__ import annotations

from dataclasses import dataclass

from vivavoce.errors import SetupError

MIB = 1024 * 1024

KEPT_PROMPTS_BYTES = 64 * MIB
"""Beginnings of prompts that stay on the device."""

KEPT_VOICES_BYTES = 64 * MIB
"""Codec states of cloned voices that stay on the device."""

WORK_BYTES = 512 * MIB
"""For libraries, graphs and long prompts' matrices: assumed, not measured on a GPU yet."""

WORK_ROW_BYTES = 48 * MIB
"""What is alive at once for each row, counted at true size: 45 MiB of the codec at its longest
chunk, 1 of a frame, and what sound is sent through."""

CLONE_WORK_BYTES = 272 * MIB
"""What is alive at once while a voice is made of the longest recording, counted at true size: 265
MiB with the speaker encoder; the codec's needs less."""

PROMPTS = 2
"""Rows that prompts are read in, a copy in the graphs' memory and one beside it."""


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
        return self.weights + self.cloning + KEPT_PROMPTS_BYTES + KEPT_VOICES_BYTES + self.work

    @property
    def cloning(self) -> int:
        """Of that, what making a voice of a recording needs, one at a time."""
        return self.encoders + CLONE_WORK_BYTES if self.encoders else 0

    @property
    def work(self) -> int:
        """Of that, what is neither weights nor kept."""
        return WORK_BYTES + PROMPTS * self.row

    def total(self, rows: int) -> int:
        """With ``rows`` of them."""
        return self.fixed + rows * (self.row + WORK_ROW_BYTES)

    def sum(self, rows: int) -> str:
        """In words, in MB of 1024 * 1024 bytes."""
        parts = (
            f"weights {_mb(self.weights)}",
            *([f"cloning {_mb(self.cloning)}"] if self.cloning else []),
            f"voices and prompts kept {_mb(KEPT_PROMPTS_BYTES + KEPT_VOICES_BYTES)}",
            f"graphs and work {_mb(self.work)}",
            f"{rows} x {_mb(self.row + WORK_ROW_BYTES)} for rows",
        )
        return f"{' + '.join(parts)} = {_mb(self.total(rows))} MB"


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
