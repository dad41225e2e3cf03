"""Where settings come from, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import AliasChoices

from vivavoce.errors import SettingsError
from vivavoce.settings import PREFIX, Settings, load_settings
from vivavoce.settings_faults import ANSWERS, moved_variables

SEED_NAMES = {
    "PRELOAD_MODEL": ("preload_model", "false", False),
    "IDLE_TIMEOUT": ("idle_timeout_s", "5", 5.0),
    "REQUEST_TIMEOUT": ("request_timeout_s", "5", 5.0),
    "MAX_QUEUE_DEPTH": ("max_queue_depth", "5", 5),
    "MAX_INPUT_CHARS": ("max_input_chars", "5", 5),
    "AUDIO_CACHE_MAX": ("audio_cache_max", "5", 5),
    "VOICE_CACHE_MAX": ("voice_cache_max", "5", 5),
    "TEXT_NORMALIZE": ("text_normalize", "0", False),
    "LOG_FORMAT": ("log_format", "json", "json"),
    "LOG_LEVEL": ("log_level", "debug", "DEBUG"),
    "MODEL_ID": ("model_id", "a/b", "a/b"),
    "PROMETHEUS_ENABLED": ("metrics", "false", False),
    "GPU_MEMORY_BUDGET_MB": ("gpu_memory_budget_mb", "4096", 4096),
}


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(PREFIX) or name in SEED_NAMES:
            monkeypatch.delenv(name)


@pytest.mark.parametrize("alias", SEED_NAMES)
@pytest.mark.parametrize("prefixed", [False, True])
def test_environment(monkeypatch: pytest.MonkeyPatch, alias: str, prefixed: bool) -> None:
    field, text, value = SEED_NAMES[alias]
    monkeypatch.setenv(PREFIX + field.upper() if prefixed else alias, text)
    assert getattr(load_settings(), field) == value


def test_every_field_has_its_prefixed_variable_and_a_description() -> None:
    for name, about in Settings.model_fields.items():
        choices = about.validation_alias
        if isinstance(choices, AliasChoices):
            assert choices.choices[0] == PREFIX + name.upper()
        assert about.description, name


def test_arguments_beat_environment_beats_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("port = 1\ncapacity = 1\nmax_queue_depth = 1\n[piper]\nthreads = 1\n")
    monkeypatch.setenv("VIVAVOCE_CONFIG", str(file))
    monkeypatch.setenv("VIVAVOCE_CAPACITY", "2")
    monkeypatch.setenv("MAX_QUEUE_DEPTH", "2")
    monkeypatch.setenv("VIVAVOCE_PIPER__NOISE_SCALE", "0.2")
    settings = load_settings(max_queue_depth=3)
    assert (settings.port, settings.capacity, settings.max_queue_depth) == (1, 2, 3)
    assert settings.engines["piper"] == {"threads": 1, "noise_scale": "0.2"}


def test_lists_are_parted_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIVAVOCE_API_KEYS", "one, two,")
    assert load_settings().api_keys == ("one", "two")


def test_unknown_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIVAVOCE_PROT", "1")
    with pytest.raises(SettingsError, match=r"VIVAVOCE_PROT.*VIVAVOCE_PORT"):
        load_settings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot = 1", r"prot: unknown setting, did you mean port\?"),
        ("port = 70000", "port: "),
        ("log_level = 'LOUD'", "(?i)log_level: .*DEBUG"),
        ("request_timeout_s = nan", "(?i)request_timeout_s"),
        ("port = ", "not TOML"),
    ],
)
def test_wrong_file_names_the_key(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=said):
        load_settings(file)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        load_settings(tmp_path / "none.toml")


def test_operations_document_lists_every_setting_as_it_is() -> None:
    script = Path(__file__).parents[2] / "scripts" / "settings_table.py"
    ran = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")


EMPTY = [
    str(name)
    for field, about in Settings.model_fields.items()
    for name in (
        about.validation_alias.choices
        if isinstance(about.validation_alias, AliasChoices)
        else [PREFIX + field.upper()]
    )
    if field not in ("api_keys", "quantize")
]


@pytest.mark.parametrize("name", EMPTY)
def test_a_variable_without_a_value_is_not_set(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    before = load_settings().model_dump()
    monkeypatch.setenv(name, "")
    assert load_settings().model_dump() == before


def test_an_option_without_a_value_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIVAVOCE_PIPER__THREADS", "")
    monkeypatch.setenv("VIVAVOCE_PIPER__WORKERS", "2")
    assert load_settings().engines["piper"] == {"workers": "2"}


@pytest.mark.parametrize("name", ["VIVAVOCE_API_KEYS", "VIVAVOCE_API_KEY"])
def test_a_key_that_was_not_filled_in_stays_an_error(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "")
    with pytest.raises(SettingsError, match=r"(?i)empty"):
        load_settings()


@pytest.mark.parametrize(
    ("variables", "options"),
    [
        ({}, {}),
        ({"QUANTIZE": "auto", "GPU_MEMORY_BUDGET_MB": "0"}, {}),
        ({"QUANTIZE": ""}, {"quantize": ""}),
        (
            {"CUDA_GRAPHS": "true", "TORCH_COMPILE": "0"},
            {"cuda_graphs": True, "torch_compile": False},
        ),
        ({"TORCH_COMPILE_MODE": "max-autotune"}, {"torch_compile_mode": "max-autotune"}),
        ({"QUANTIZE": "int8", "VIVAVOCE_QWEN3__QUANTIZE": "none"}, {}),
    ],
)
def test_what_every_engine_is_offered(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], options: dict[str, object]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    shared = load_settings(engine="qwen3").shared_options
    assert shared.pop("models_dir")
    assert shared == options


def test_variables_of_other_servers_are_answered_in_words() -> None:
    environment = {"VAD_TRIM": "true", "STREAM_TYPE": "", "MAX_BATCH_SIZE": "4", "OTHER": "1"}
    said = moved_variables(environment)
    assert len(said) == 2
    assert said[0].startswith("VAD_TRIM=true has no effect: silence")
    assert "VIVAVOCE_CAPACITY" in said[1]
    assert {"VAD_TRIM", "STREAM_TYPE", "MAX_BATCH_SIZE", "INFERENCE_CPU_CORES"} <= set(ANSWERS)
