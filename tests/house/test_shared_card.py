"""``compose.freepbx.yaml``: what it starts, and that its sum about the card is right."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from vivavoce.settings import PREFIX, Settings, load_settings

ROOT = Path(__file__).parents[2]
FILE = ROOT / "compose.freepbx.yaml"
VARIABLE = re.compile(r"\$\{(?P<name>\w+):?(?P<kind>[-?])(?P<rest>[^}]*)\}")
LINE = re.compile(r"^# +(-?)([\d,]+)  ", re.MULTILINE)


def service() -> dict[str, Any]:
    return dict(YAML(typ="safe").load(FILE)["services"]["vivavoce"])


def variables() -> dict[str, str]:
    """As the container gets them where only the key is given."""
    found = {}
    for name, value in service()["environment"].items():
        match = VARIABLE.fullmatch(value)
        found[name] = value if match is None else match["rest"]
        if match is not None and match["kind"] == "?":
            found[name] = "a-long-secret"
    return found


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    for name, value in {"VIVAVOCE_ENGINE": "qwen3", **variables()}.items():
        monkeypatch.setenv(name, value)
    return load_settings()


def test_it_follows_the_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, str(FILE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_serves_the_old_clients_with_a_key_and_the_budget(settings: Settings) -> None:
    assert settings.compat == "qwen3-tts-server"
    assert settings.api_keys == ("a-long-secret",)
    assert settings.port == 8000, "the image asks that port how it is"
    assert settings.gpu_memory_budget_mb == 3072
    assert settings.engines["qwen3"] == {"device": "cuda", "capacity": "0"}
    assert service()["ports"] == ["127.0.0.1:8101:8000"]


def test_the_network_is_the_one_that_is_there() -> None:
    networks = YAML(typ="safe").load(FILE)["networks"]
    assert networks == {"freepbx-net": {"external": True}}
    assert service()["networks"] == list(networks)


def test_the_sum_about_the_card_is_right(settings: Settings) -> None:
    text = FILE.read_text(encoding="utf-8")
    parts = [(sign, int(number.replace(",", ""))) for sign, number in LINE.findall(text)]
    (_, card), *taken, (_, left) = parts
    assert card == 8_188 * 1_048_576 // 1_000_000
    assert all(sign for sign, _ in taken)
    assert card - sum(number for _, number in taken) == left
    budget = round(settings.gpu_memory_budget_mb * 1_048_576 / 1_000_000)
    assert budget in [number for _, number in taken]
    assert f"{card:,}" in (ROOT / "docs" / "cards.md").read_text(encoding="utf-8")
