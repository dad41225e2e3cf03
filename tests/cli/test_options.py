from __future__ import annotations

from pathlib import Path

import pytest

from vivavoce.cli.options import pairs, settings_from
from vivavoce.errors import InputError, SettingsError


def test_what_is_said_wins_over_set_environment_and_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "vivavoce.toml"
    config.write_text('port = 1\nhost = "127.0.0.2"\nmax_queue_depth = 1\nstall_timeout_s = 1\n')
    monkeypatch.setenv("VIVAVOCE_HOST", "127.0.0.3")
    monkeypatch.setenv("VIVAVOCE_PORT", "3")
    monkeypatch.setenv("MAX_QUEUE_DEPTH", "3")
    settings = settings_from(config, ["port=4", "max-queue-depth=4"], port=5, engine=None)
    assert settings.port == 5
    assert settings.max_queue_depth == 4
    assert settings.host == "127.0.0.3"
    assert settings.stall_timeout_s == 1
    assert settings.engine == "fake"


def test_engine_options_are_set_with_a_dot() -> None:
    settings = settings_from(None, ["fake.chunk_ms=40", "fake.paced=true"])
    assert settings.engine_options == {"chunk_ms": "40", "paced": "true"}


@pytest.mark.parametrize("item", ["port", "=1", " =1"])
def test_set_wants_name_and_value(item: str) -> None:
    with pytest.raises(InputError, match="name=value"):
        settings_from(None, [item])


def test_unknown_setting_gets_a_suggestion() -> None:
    with pytest.raises(SettingsError, match="did you mean port"):
        settings_from(None, ["prt=1"])


def test_values_may_hold_equals_signs() -> None:
    assert pairs(["api_keys=a=b"], "--set") == {"api_keys": "a=b"}
