from __future__ import annotations

import os
import subprocess
import sys

import pytest

from vivavoce.runtime import torch_threads
from vivavoce.runtime.torch_threads import WAIT_POLICY, half_the_cores, wait_without_spinning


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (3, 1), (8, 4)])
def test_half_the_cores_are_left(cores: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_threads, "usable_cores", lambda: cores)
    assert half_the_cores() == threads


def test_threads_sleep_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.delenv(WAIT_POLICY, raising=False)
    assert wait_without_spinning()
    assert os.environ[WAIT_POLICY] == "passive"
    monkeypatch.setenv(WAIT_POLICY, "active")
    assert wait_without_spinning()
    assert os.environ[WAIT_POLICY] == "active"


def test_it_can_be_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", object())
    monkeypatch.delenv(WAIT_POLICY, raising=False)
    assert not wait_without_spinning()
    assert WAIT_POLICY not in os.environ


def test_qwen3_says_it_before_torch_is_imported() -> None:
    pytest.importorskip("torch")
    code = (
        "import os, sys\n"
        "from vivavoce.engines.registry import create_engine\n"
        "create_engine('qwen3')\n"
        f"assert 'torch' not in sys.modules and os.environ['{WAIT_POLICY}'] == 'passive'\n"
    )
    kept = {name: value for name, value in os.environ.items() if name != WAIT_POLICY}
    assert subprocess.run([sys.executable, "-c", code], env=kept, check=False).returncode == 0
