"""docs/cards.md keeps what a card has shown apart from what is only expected of it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "cards.md"
RESULT = re.compile(r"\[[^\]]+\]\(\.\./(benchmarks/results/[\w.-]+\.json)\)")


def table() -> list[list[str]]:
    """Rows of the table that has both columns, its head first."""
    text = PAGE.read_text(encoding="utf-8")
    section = text[text.index("## Measured and expected") :]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_both_columns_are_there_by_names_that_nobody_confuses() -> None:
    head = table()[0]
    assert head[2:4] == ["Measured", "Expected, not measured"]


def test_what_is_measured_names_the_file_it_stands_in() -> None:
    rows = table()[2:]
    assert len(rows) >= 10
    for row in rows:
        found = RESULT.search(row[2])
        assert row[2] == "open" or (found is not None and (ROOT / found[1]).is_file()), row
