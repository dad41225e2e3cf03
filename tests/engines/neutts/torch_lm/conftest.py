"""Random checkpoints, each written once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_lm(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes tiny checkpoints: ``tiny_lm("neutts-air", tied=False)``."""
    from vivavoce.testing.random_lm import RandomLm, make_random_lm

    made: dict[RandomLm, Path] = {}

    def make(name: str, **more: object) -> Path:
        given = {"dtype": "F32", "end_every": 0, **more}
        wanted = RandomLm(name, small=True, **given)  # type: ignore[arg-type]
        if wanted not in made:
            made[wanted] = make_random_lm(wanted, tmp_path_factory.mktemp("lm") / name)
        return made[wanted]

    return make
