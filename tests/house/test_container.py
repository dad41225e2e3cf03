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

from vivavoce.engine_tables import table_names
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
    assert found.shared_options["gpu_memory_budget_mb"] == 4096
    assert found.engine_options["model"] == "Qwen3-TTS-12Hz-0.6B-CustomVoice"


def test_nothing_switches_quantizing_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings(monkeypatch, QUANTIZE="").shared_options["quantize"] == ""
    assert settings(monkeypatch, QUANTIZE="none").shared_options["quantize"] == "none"


def test_every_variable_is_one_that_the_settings_read() -> None:
    known = set()
    for name, about in Settings.model_fields.items():
        choices = getattr(about.validation_alias, "choices", None) or [PREFIX + name.upper()]
        known |= {str(each) for each in choices}
    own = {name for name in service()["environment"] if "__" not in name}
    assert own <= known
    # An engine's own options are settings of a table.
    tables = {name.partition("__")[0] for name in set(service()["environment"]) - own}
    assert tables <= {PREFIX + name.upper() for name in table_names(())}


def test_nothing_in_it_falls_back_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings(monkeypatch).engine_options["device"] == "cuda"
    image = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for part in ("QWEN3__DEVICE", "NEUTTS__BACKBONE_DEVICE", "NEUTTS__CODEC_DEVICE"):
        assert f"VIVAVOCE_{part}=cuda" in image


def start(variables: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """``vivavoce serve`` in an environment that has nothing else to do with vivavoce."""
    own = {*service()["environment"], "TORCH_COMPILE"}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX) and k not in own}
    image = {"VIVAVOCE_ENGINE": "qwen3", "XDG_DATA_HOME": str(folder), "VIVAVOCE_PORT": "0"}
    return subprocess.run(
        [sys.executable, "-m", "vivavoce.cli", "serve"],
        env=kept | image | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def without_cuda() -> None:
    """Skip where there is no PyTorch, or a GPU that it can use."""
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")


def test_a_container_without_a_gpu_refuses_to_start_and_says_what_to_do(tmp_path: Path) -> None:
    without_cuda()
    given = {"VIVAVOCE_API_KEY": "a-long-secret-of-mine"}
    variables = {k: resolved(v, given) for k, v in service()["environment"].items()}
    ended = start(variables, tmp_path)
    assert ended.returncode == 3, ended.stderr
    assert "device='cuda', but PyTorch sees no CUDA device: " in ended.stderr
    assert "driver" in ended.stderr or "--index-url" in ended.stderr
    assert not (tmp_path / "vivavoce" / "models").exists()  # nothing was downloaded for that


def test_a_budget_alone_asks_for_a_gpu(tmp_path: Path) -> None:
    without_cuda()
    ended = start({"GPU_MEMORY_BUDGET_MB": "4096"}, tmp_path)
    assert ended.returncode == 3, ended.stderr
    assert "gpu_memory_budget_mb=4096 asks for a GPU" in ended.stderr


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
