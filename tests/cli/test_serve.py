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


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("qwen3-tts-server", {"engine": "qwen3", "port": 8101, "max_queue_depth": 5}),
        ("neutts-server", {"engine": "neutts", "port": 5555, "playback": "device"}),
    ],
)
def test_another_server_s_settings_take_the_place_of_defaults(
    vivavoce: Callable[..., Any],
    served: list[Settings],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    expected: dict[str, Any],
) -> None:
    monkeypatch.delenv("VIVAVOCE_ENGINE", raising=False)
    assert vivavoce("serve", "--compat", name).status == 0
    (settings,) = served
    assert {each: getattr(settings, each) for each in expected} == expected
    assert settings.compat == name
    assert settings.host == "127.0.0.1"
    assert (settings.output_dir is not None) == (name == "neutts-server")


def test_what_was_said_goes_before_another_server_s_settings(
    vivavoce: Callable[..., Any], served: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_QUEUE_DEPTH", "7")
    monkeypatch.setenv("VIVAVOCE_COMPAT", "qwen3-tts-server")
    assert vivavoce("serve", "--engine", "fake", "--set", "port=0").status == 0
    (settings,) = served
    assert (settings.engine, settings.port, settings.max_queue_depth) == ("fake", 0, 7)


def test_a_server_that_nobody_knows(vivavoce: Callable[..., Any], served: list[Settings]) -> None:
    ran = vivavoce("serve", "--compat", "kokoro")
    assert ran.status == 3
    assert "qwen3-tts-server" in ran.err
    assert served == []
