"""Why there is no CUDA, in words that say what to install."""

from __future__ import annotations

import pytest

from vivavoce.runtime.cuda import explain
from vivavoce.runtime.nvidia import Driver
from vivavoce.types import Gpu

CARD = (Gpu("RTX 4060"),)
OLD, NEW = Driver("550.54.14", (12, 4), CARD), Driver("580.95.05", (13, 0), CARD)


@pytest.fixture(autouse=True)
def _nothing_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("driver", "built_for", "said"),
    [
        (None, "13.0", ("no NVIDIA driver was found", "580", "--gpus all")),
        (None, "12.8", ("525",)),
        (None, "14.1", ("580",)),
        (OLD, "13.0", ("550.54.14 is too old for CUDA 13.0", "580", "whl/cu126")),
        (OLD, None, ("2.13.0+cpu", "built without CUDA", "whl/cu126")),
        (NEW, None, ("built without CUDA", "whl/cu130")),
        (NEW, "13.0", ("does not start on RTX 4060", "580.95.05")),
        (OLD, "12.8", ("does not start on RTX 4060",)),
        (Driver("580.1", (13, 0), ()), "13.0", ("shows no GPU",)),
    ],
)
def test_each_cause_has_its_words(
    driver: Driver | None, built_for: str | None, said: tuple[str, ...]
) -> None:
    words = explain(driver, "2.13.0+cpu", built_for)
    assert all(part in words for part in said), words


def test_a_hidden_card_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES=''" in explain(NEW, "2.13.0", "13.0")
