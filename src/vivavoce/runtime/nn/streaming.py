"""How many rows are few: a product over them costs what reading its weights costs."""

from __future__ import annotations

MOST_ROWS = 32
MOST_ROWS_QUANTIZED = 64
"""Over the other, a library's product is faster, but that knows float only."""


def takes(rows: int, *, quantized: bool) -> bool:
    """Whether so many rows are still worth a kernel that streams the weights."""
    return rows <= (MOST_ROWS_QUANTIZED if quantized else MOST_ROWS)
