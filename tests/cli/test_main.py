from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from vivavoce import errors
from vivavoce.cli import main as program


def test_help_names_every_command(vivavoce: Callable[..., Any]) -> None:
    ran = vivavoce("--help")
    assert ran.status == 0
    assert all(f" {name} " in ran.out for name in program.COMMANDS)


@pytest.mark.parametrize("name", program.COMMANDS)
def test_every_command_has_help(vivavoce: Callable[..., Any], name: str) -> None:
    ran = vivavoce(name, "--help")
    assert ran.status == 0
    assert f"vivavoce {name}" in ran.out


def test_version(vivavoce: Callable[..., Any]) -> None:
    assert vivavoce("--version").out.startswith("vivavoce 0.")


def test_unknown_command_and_option_are_usage_errors(vivavoce: Callable[..., Any]) -> None:
    assert vivavoce("sing").status == 2
    assert vivavoce("say", "--loudly").status == 2


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.EmptyInput(), 2),
        (errors.UnknownVoice("x", []), 2),
        (errors.NotFound("x"), 2),
        (errors.Conflict("x"), 2),
        (errors.SettingsError("x"), 3),
        (errors.MissingExtra("x", "piper"), 3),
        (errors.PlaybackError("x"), 3),
        (errors.EngineError("x"), 1),
        (errors.Busy("x", retry_after_ms=1), 1),
    ],
)
def test_exit_status_of_errors(error: errors.VivavoceError, status: int) -> None:
    assert program.exit_status(error) == status


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (errors.EngineError("two\nlines"), 1, "vivavoce: two lines\n"),
        (KeyboardInterrupt(), 130, ""),
        (OSError(28, "No space left on device", "out.wav"), 1, "out.wav: No space left"),
    ],
)
def test_what_a_command_raises_becomes_one_line(
    vivavoce: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    raised: BaseException,
    status: int,
    said: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr("vivavoce.cli.options.read_text", fail)
    ran = vivavoce("text", "Hello.")
    assert ran.status == status
    assert said in ran.err
    assert ran.err.count("\n") == (1 if said else 0)


def test_a_bug_keeps_its_traceback(
    vivavoce: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("vivavoce.cli.options.read_text", fail)
    with pytest.raises(ZeroDivisionError):
        program.app(["text", "Hello."], standalone_mode=False)


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    text = "One sentence more. " * 20_000
    command = f"{sys.executable} -m vivavoce.cli text -"
    ran = subprocess.run(
        f"{command} | head -n 1; exit ${{PIPESTATUS[0]}}",
        input=text.encode(), capture_output=True, shell=True, executable="/bin/bash", check=False,
    )  # fmt: skip
    assert ran.returncode == 141
    assert ran.stderr == b""
    assert ran.stdout == b"One sentence more.\n"


def test_help_imports_nothing_heavy() -> None:
    heavy = ("numpy", "pydantic", "fastapi", "onnxruntime", "av", "httpx")
    script = (
        "import sys\nfrom vivavoce.cli.main import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        f"sys.exit(' '.join(name for name in {heavy} if name in sys.modules) or 0)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
