"""What the engine tells of its parts: the card that they run on, and their weights."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from vivavoce.engines.neutts.describing import gpu, weights
from vivavoce.types import Gpu, WeightsFormat

CARD, OTHER = Gpu("Card", 1, 2, 3, 4), Gpu("Other", 1, 2)
INT8, FLOAT = WeightsFormat("int8", "asked for"), WeightsFormat("float32", "the default")


def part(device: str, card: Gpu | None = None, stored: WeightsFormat | None = None) -> Any:
    return SimpleNamespace(device=device, gpu=card, weights=stored)


def test_the_backbone_s_card_goes_first() -> None:
    assert gpu(part("cuda:0", CARD), part("cuda:1", OTHER)) is CARD
    assert gpu(part("cpu", OTHER), part("cuda:0", CARD)) is CARD
    assert gpu(part("cuda:0", None), part("cuda:0", CARD)) is CARD


def test_on_a_cpu_and_unloaded_there_is_none() -> None:
    assert gpu(part("cpu", CARD), part("cpu", CARD)) is None
    assert gpu(None, None) is None
    assert gpu(SimpleNamespace(device="cuda:0"), None) is None  # type: ignore[arg-type]


def test_weights_of_each_part_that_tells_them() -> None:
    told = weights(part("cpu", stored=INT8), part("cpu", stored=FLOAT))
    assert list(told.items()) == [("backbone", INT8), ("codec", FLOAT)]
    assert weights(None, part("cpu")) == {}
