from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from vivavoce.settings import Settings


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that servers were started with."""
    seen: list[Settings] = []
    monkeypatch.setattr("vivavoce.serving.server.run", seen.append)
    return seen


def test_options_become_settings(vivavoce: Callable[..., Any], served: list[Settings]) -> None:
    arguments = ["--port", "0", "--voice", "bass", "--api-key", "a", "--api-key", "b"]
    assert vivavoce("serve", *arguments, "--set", "fake.capacity=2").status == 0
    (settings,) = served
    assert settings.port == 0
    assert settings.api_keys == ("a", "b")
    assert settings.engine_options == {"capacity": "2", "voice": "bass"}
    assert not settings.allow_public_without_key


def test_a_wrong_setting_is_named(vivavoce: Callable[..., Any], served: list[Settings]) -> None:
    ran = vivavoce("serve", "--port", "70000")
    assert ran.status == 3
    assert "port" in ran.err
    assert served == []
