"""NVIDIA's driver, played by a library of Python functions."""

# ruff: noqa: N802 - the names are NVML's

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import pytest

from vivavoce.runtime import nvidia
from vivavoce.runtime.nvidia import Driver, find_driver, only_gpu
from vivavoce.types import Gpu

GIB = 2**30


class Nvml:
    """As libnvidia-ml answers; ``cards`` are names with free and total bytes."""

    def __init__(self, cards: list[tuple[str, int, int]], status: int = 0) -> None:
        self.cards = cards
        self.status = status
        self.begun = 0

    def nvmlInit_v2(self) -> int:
        self.begun += 1
        return self.status

    def nvmlSystemGetDriverVersion(self, text: Any, size: int) -> int:
        text.value = b"550.54.14"
        return 0

    def nvmlSystemGetCudaDriverVersion_v2(self, version: Any) -> int:
        version._obj.value = 12_040
        return 0

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = len(self.cards)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, device: Any) -> int:
        device._obj.value = index + 1
        return 0

    def nvmlDeviceGetName(self, device: ctypes.c_void_p, text: Any, size: int) -> int:
        text.value = self.cards[(device.value or 0) - 1][0].encode()
        return 0

    def nvmlDeviceGetMemoryInfo(self, device: ctypes.c_void_p, memory: Any) -> int:
        _, free, total = self.cards[(device.value or 0) - 1]
        memory._obj.free, memory._obj.total = free, total
        return 0 if total else 999


@pytest.fixture
def playing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    def play(nvml: Nvml | None) -> None:
        nvidia._initialized.cache_clear()
        monkeypatch.setattr(nvidia, "_open_nvml", lambda: nvml)

    yield play
    nvidia._initialized.cache_clear()


def test_a_driver_tells_its_version_and_its_cards(playing: Any) -> None:
    nvml = Nvml([("RTX 4060", 5 * GIB, 8 * GIB), ("Unasked", 0, 0)])
    playing(nvml)
    driver = find_driver()
    assert driver == Driver(
        "550.54.14", (12, 4), (Gpu("RTX 4060", 5 * GIB, 8 * GIB), Gpu("Unasked"))
    )
    assert driver is not None and driver.branch == 550
    find_driver()
    assert nvml.begun == 1


@pytest.mark.parametrize("nvml", [None, Nvml([], status=9)])
def test_no_driver(nvml: Nvml | None, playing: Any) -> None:
    playing(nvml)
    assert find_driver() is None and only_gpu() is None


def test_one_card_is_the_one_and_of_several_none(playing: Any) -> None:
    playing(Nvml([("A", 1, 2)]))
    assert only_gpu() == Gpu("A", 1, 2)
    playing(Nvml([("A", 1, 2), ("B", 1, 2)]))
    assert only_gpu() is None


def test_libraries_that_are_not_there_are_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia, "LIBRARIES", ("libsurely-not-there.so.1",))
    assert nvidia._open_nvml() is None


def test_a_version_without_a_number_is_the_oldest() -> None:
    assert Driver("unknown", (0, 0), ()).branch == 0
