from __future__ import annotations

import os
import sys

import pytest

from vivavoce.runtime.machine import peak_resident_bytes, usable_cores


def test_cores_are_those_the_process_is_bound_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 3}, raising=False)
    assert usable_cores() == 3


def test_cores_where_the_system_binds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert usable_cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1


def test_peak_memory_is_told_or_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    if (peak := peak_resident_bytes()) is not None:
        assert 1e6 < peak < 1e12
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_resident_bytes() is None
