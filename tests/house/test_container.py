"""``compose.yaml`` is one, says what the settings know, and its image runs as nobody special."""

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
COMPOSE = ROOT / "compose.yaml"
INSTRUCTION = re.compile(r"^([A-Z]+) (.*?)(?<!\\)$", re.MULTILINE | re.DOTALL)
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?P<operator>:?[-?])(?P<rest>[^}]*)\}")


def checked(path: Path) -> subprocess.CompletedProcess[str]:
    """Against the schema of the Compose Specification, as ``check-jsonschema`` carries it."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    return subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)


def test_it_follows_the_schema() -> None:
    done = checked(COMPOSE)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("restart: unless-stopped", "restart: [1]"),
        ("image:", "imagine:"),
        ("capabilities: [gpu]", "gpus: 1"),
    ],
)
def test_the_schema_finds_what_is_wrong(right: str, wrong: str, tmp_path: Path) -> None:
    text = COMPOSE.read_text(encoding="utf-8")
    assert right in text
    broken = tmp_path / "compose.yaml"
    broken.write_text(text.replace(right, wrong))
    assert checked(broken).returncode == 1


def service() -> dict[str, Any]:
    """The only one."""
    (found,) = YAML(typ="safe").load(COMPOSE)["services"].values()
    return dict(found)


def resolved(value: str, environment: dict[str, str]) -> str:
    """As Compose fills variables in: ``:-`` for unset and empty ones, ``-`` for unset ones."""

    def fill(found: re.Match[str]) -> str:
        given, operator = environment.get(found["name"]), found["operator"]
        missing = given is None or (operator.startswith(":") and given == "")
        assert not missing or operator.endswith("-"), f"{found['name']} must be set"
        return found["rest"] if missing else str(given)

    return VARIABLE.sub(fill, value)


def settings(monkeypatch: pytest.MonkeyPatch, **given: str) -> Settings:
    """What the server in the container reads."""
    own = {*service()["environment"], "VIVAVOCE_CONFIG"}
    for name in [name for name in os.environ if name.startswith(PREFIX) or name in own]:
        monkeypatch.delenv(name)
    given = {"VIVAVOCE_API_KEY": "secret"} | given
    for name, value in service()["environment"].items():
        monkeypatch.setenv(name, resolved(value, given))
    monkeypatch.setenv("VIVAVOCE_ENGINE", "qwen3")
    return load_settings()


def test_its_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings(monkeypatch)
    assert (found.quantize, found.torch_compile_mode) == ("int8", "max-autotune")
    assert found.cuda_graphs and found.preload_model and found.idle_timeout_s == 0
    assert found.exit_on_failure and service()["restart"] == "unless-stopped"
    assert found.api_keys == ("secret",)
    assert found.engine_options["gpu_memory_budget_mb"] == 4096
    assert found.engine_options["model"] == "Qwen3-TTS-12Hz-0.6B-CustomVoice"


def test_nothing_switches_quantising_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings(monkeypatch, QUANTIZE="").engine_options["quantize"] == ""
    assert settings(monkeypatch, QUANTIZE="none").engine_options["quantize"] == "none"


def test_every_variable_is_one_that_the_settings_read() -> None:
    known = set()
    for name, about in Settings.model_fields.items():
        choices = getattr(about.validation_alias, "choices", None) or [PREFIX + name.upper()]
        known |= {str(each) for each in choices}
    assert set(service()["environment"]) <= known


def instructions() -> list[tuple[str, str]]:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return [(found[1], found[2]) for found in INSTRUCTION.finditer("\n".join(lines))]


def test_the_image_is_slim_and_runs_as_nobody_special() -> None:
    found = instructions()
    assert all("-slim" in rest for name, rest in found if name == "FROM")
    names = [name for name, _ in found]
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert dict(found)["USER"] not in ("root", "0")
    assert "/readyz" in dict(found)["HEALTHCHECK"]


def test_what_it_copies_is_there_and_sent_along() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for name, rest in instructions():
        if name != "COPY" or rest.startswith("--from"):
            continue
        for source in rest.split()[:-1]:
            assert (ROOT / source).exists() and f"!{source}" in ignored, source
