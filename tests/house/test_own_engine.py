"""The engine of ``examples/own_engine``, beside the program, is configured like ours."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import wave
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the package as it is built, entry points and all."""
    pytest.importorskip("setuptools")
    room = tmp_path_factory.mktemp("own_engine")
    source, target = room / "source", room / "target"
    shutil.copytree(ROOT / "examples" / "own_engine", source)
    target.mkdir()
    build = ["build_py", "--build-lib", str(target), "egg_info", "--egg-base", str(target)]
    ran = subprocess.run(
        [sys.executable, "-c", "import setuptools; setuptools.setup()", "-q", *build],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return target


@pytest.fixture
def vivavoce(installed: Path, tmp_path: Path) -> Command:
    """The program with the engine beside it, and the variables that are given."""

    def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("VIVAVOCE_")
        }
        environment |= {
            "PYTHONPATH": os.pathsep.join([str(installed), str(ROOT / "src")]),
            "XDG_DATA_HOME": str(tmp_path / "data"),
            "VIVAVOCE_CACHE_DIR": str(tmp_path / "cache"),
        }
        return subprocess.run(
            [sys.executable, "-m", "vivavoce.cli", *words],
            cwd=tmp_path,
            env=environment | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def seconds_of(file: Path) -> float:
    with wave.open(str(file)) as sound:
        return float(sound.getnframes() / sound.getframerate())


def test_doctor_finds_it_and_its_options(vivavoce: Command) -> None:
    ran = vivavoce("doctor", "--engine", "morse", "--set", "morse.pitch_hz=440", "--json")
    told = json.loads(ran.stdout)
    assert told["ok"], told
    checks = {check["name"]: check for check in told["checks"]}
    assert checks["settings"]["facts"]["morse"] == {"pitch_hz": "440"}
    assert checks["engine"]["facts"]["engine"] == "morse"


def test_its_voices_are_listed(vivavoce: Command) -> None:
    ran = vivavoce("voices", "--engine", "morse", "--json", VIVAVOCE_MORSE__CAPACITY="2")
    assert [row["voice"] for row in json.loads(ran.stdout)] == ["key"], ran.stderr


def test_an_option_is_the_same_wherever_it_is_set(vivavoce: Command, tmp_path: Path) -> None:
    (tmp_path / "slow.toml").write_text('engine = "morse"\n[morse]\nwords_per_minute = 15\n')
    say = ("say", "paris paris", "--engine", "morse", "-o")
    ways = {
        "plain": vivavoce(*say, "plain.wav"),
        "set": vivavoce(*say, "set.wav", "--set", "morse.words_per_minute=15"),
        "variable": vivavoce(*say, "variable.wav", VIVAVOCE_MORSE__WORDS_PER_MINUTE="15"),
        "file": vivavoce("say", "paris paris", "-o", "file.wav", "--config", "slow.toml"),
    }
    for name, ran in ways.items():
        assert ran.returncode == 0, (name, ran.stderr)
    lengths_s = {name: seconds_of(tmp_path / f"{name}.wav") for name in ways}
    slow_s = lengths_s["set"]
    assert slow_s == pytest.approx(2 * lengths_s["plain"], rel=0.1)
    assert lengths_s == {"plain": lengths_s["plain"], "set": slow_s} | dict.fromkeys(
        ("variable", "file"), slow_s
    )


@pytest.mark.parametrize(
    ("words", "variables", "said"),
    [
        (["--set", "morse.pich_hz=440"], {}, "Unknown option 'pich_hz' of engine 'morse'. Did you"),
        (["--set", "mrose.pitch_hz=440"], {}, "mrose: unknown setting, and no engine of that name "
         "is installed, did you mean morse?"),
        ([], {"VIVAVOCE_MROSE__PITCH_HZ": "440"}, "Did you mean VIVAVOCE_MORSE?"),
        (["--set", "morse.pitch_hz=high"], {}, "Option 'pitch_hz' of engine 'morse'"),
    ],
)  # fmt: skip
def test_what_is_misspelt_is_refused(
    vivavoce: Command, words: list[str], variables: dict[str, str], said: str
) -> None:
    ran = vivavoce("voices", "--engine", "morse", *words, **variables)
    assert ran.returncode == 3
    assert said in ran.stderr


def test_an_unknown_engine_is_refused(vivavoce: Command) -> None:
    ran = vivavoce("voices", "--engine", "mrose")
    assert ran.returncode == 3
    assert "Known engines: fake, morse, neutts" in ran.stderr
