from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vivavoce.key_table import digest_of
from vivavoce.settings import load_settings

LIMITS = ["--requests-per-minute", "60", "--concurrent", "2", "--voice", "bass", "--voice", "日本"]


def test_a_key_is_printed_once_and_its_table_fits_the_settings(
    vivavoce: Callable[..., Any], tmp_path: Path
) -> None:
    ran = vivavoce("keys", "new", "acme", *LIMITS, "--admin")
    assert ran.status == 0
    (key,) = [line for line in ran.out.splitlines() if line.startswith("vv_")]
    assert len(key) >= 40
    written = ran.out[ran.out.index("[[keys]]") :]
    assert key not in written
    file = tmp_path / "settings.toml"
    file.write_text(written)
    (table,) = load_settings(file).keys
    assert table.model_dump() == {
        "name": "acme",
        "sha256": digest_of(key).hex(),
        "requests_per_minute": 60,
        "concurrent": 2,
        "voices": ("bass", "日本"),
        "admin": True,
    }


def test_what_is_not_said_is_not_in_the_table(vivavoce: Callable[..., Any]) -> None:
    ran = vivavoce("keys", "new", "acme", "--json")
    told = json.loads(ran.out)
    assert told["table"] == {"name": "acme", "sha256": digest_of(told["key"]).hex()}
    plain = vivavoce("keys", "new", "acme").out
    (table,) = tomllib.loads(plain[plain.index("[[keys]]") :])["keys"]
    assert set(table) == {"name", "sha256"}


def test_every_key_is_another_and_nothing_is_stored(
    vivavoce: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    keys = {json.loads(vivavoce("keys", "new", "a", "--json").out)["key"] for _ in range(5)}
    assert len(keys) == 5
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a b"], "name"),
        (["a", "--concurrent", "0"], "concurrent"),
        (["a", "--requests-per-minute", "-1"], "requests_per_minute"),
        (["a", "--voice", " "], "voices"),
    ],
)
def test_what_no_table_may_say_is_refused(
    vivavoce: Callable[..., Any], arguments: list[str], said: str
) -> None:
    ran = vivavoce("keys", "new", *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert said in ran.err
