"""What a server of its own takes, and how soon it is heard: cold, idle, woken."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vivavoce.bench.engine import server
from vivavoce.bench.engine.setting import Setting, make_checkpoint
from vivavoce.bench.engine.suites import run_part
from vivavoce.types import Gpu

MIB = 1024 * 1024


def setting_of(folder: Path) -> Setting:
    return Setting(folder, "0.6B", "cpu", (1,), ("none",), 0.3, tiny=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_server_is_measured_from_its_cold_start_to_being_woken(tmp_path: Path) -> None:
    told = run_part("server", setting_of(make_checkpoint("0.6B", tmp_path, tiny=True)))
    assert "failed" not in told
    found = told["none"]
    assert found["cold_start_s"] > 0 and found["rows"] == 4
    for name in ("one_caller", "after_idle", "woken"):
        heard = found[name]
        assert heard["audible_ms"]["p50"] >= heard["first_byte_ms"]["p50"] > 0
        assert "failed_requests" not in heard
    assert found["loaded_mb"]["resident"] > 50 and "resident" in found["unloading_freed_mb"]


class Told:
    """A server as its ``/health`` shows it."""

    def __init__(self, reserved: int | None) -> None:
        self.health = {"gpu_reserved_mb": reserved, "gpu_allocated_mb": 900}

    def memory_bytes(self) -> dict[str, int]:
        return {"rss": 700 * MIB}


def test_the_context_is_what_pytorch_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    free = iter((5_000, 7_500))
    monkeypatch.setattr(server, "_health", lambda each: each.health)
    monkeypatch.setattr(server, "only_gpu", lambda: Gpu("card", next(free) * MIB, 8_188 * MIB))
    loaded = server.memory_mb(Told(2_400), 8_000)  # type: ignore[arg-type]
    assert loaded["of_the_card"] == 3_000 and loaded["context_and_libraries"] == 600
    unloaded = server.memory_mb(Told(None), 8_000)  # type: ignore[arg-type]
    assert unloaded == {"resident": 700, "of_the_card": 500}
    assert server.freed_mb(loaded, unloaded) == {"resident": 0, "of_the_card": 2_500}


def test_without_a_driver_the_card_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_health", lambda each: each.health)
    monkeypatch.setattr(server, "only_gpu", lambda: None)
    assert server.free_mb() is None
    assert server.memory_mb(Told(None), None) == {"resident": 700}  # type: ignore[arg-type]


def test_a_server_that_never_unloads_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    told: Any = SimpleNamespace(health={"state": "ready"})
    monkeypatch.setattr(server, "_health", lambda each: each.health)
    with pytest.raises(AssertionError, match="not unloaded"):
        server._await_unloaded(told, 0.0)
