"""How many rows are few: a product over them costs what reading its weights costs."""

from __future__ import annotations

MOST_ROWS = 32
MOST_ROWS_QUANTISED = 64
"""Over the other, a library's product is faster, but that knows float only."""


def takes(rows: int, *, quantised: bool) -> bool:
    """Whether so many rows are still worth a kernel that streams the weights."""
    return rows <= (MOST_ROWS_QUANTISED if quantised else MOST_ROWS)
