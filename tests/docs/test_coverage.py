"""Every test and script that docs/coverage.md names is there, and every place on the map."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`((?:\w+/)+(?:\w+\.py)?|Dockerfile)`")


def test_what_shows_a_row_is_there() -> None:
    text = (ROOT / "docs" / "coverage.md").read_text(encoding="utf-8")
    rows = text[text.index("## ") :]
    named = set(NAMED.findall(rows))
    assert len(named) > 30
    lost = {
        name
        for name in named
        if not any((ROOT / at / name).exists() for at in ("tests", ".", "src/vivavoce"))
    }
    assert lost == set()


PLACE = re.compile(r"`((?:[\w.]+/)+(?:\w+\.py)?|\w+\.py)`")


def test_the_map_names_what_is_there() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = set(PLACE.findall(text))
    assert len(named) > 30
    homes = [ROOT, ROOT / "src" / "vivavoce", *(ROOT / "src" / "vivavoce").glob("*/")]
    homes += (ROOT / "src" / "vivavoce" / "engines").glob("*/")
    lost = {name for name in named if not any((home / name).exists() for home in homes)}
    assert lost == set()
