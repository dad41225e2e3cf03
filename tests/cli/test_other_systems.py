"""Every command works where ``resource``, ``os.sched_getaffinity``, ``/proc`` and SIGHUP are not.

They are taken away in child processes, and in theirs; see ``unlike_linux/sitecustomize.py``.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import wave
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from quality.live import LiveServer, clean_environment, serving

SHIM = Path(__file__).parent / "unlike_linux"
VIVAVOCE = (sys.executable, "-m", "vivavoce.cli")
ENGINES = ("fake", "piper")


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What children inherit."""
    paths = [str(SHIM), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def server() -> Iterator[LiveServer]:
    with serving("fake", command=VIVAVOCE) as live:
        yield live


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*VIVAVOCE, *arguments],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_the_names_are_really_gone() -> None:
    code = (
        "import os, signal, pathlib\n"
        "assert not hasattr(os, 'sched_getaffinity') and not hasattr(signal, 'SIGHUP')\n"
        "assert not pathlib.Path('/proc/self/status').exists()\n"
        "for attempt in (lambda: __import__('resource'), lambda: open('/proc/self/status')):\n"
        "    try: attempt()\n"
        "    except (ImportError, OSError): pass\n"
        "    else: raise SystemExit(1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=clean_environment(), check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "command",
    [
        ("doctor",),
        ("voices",),
        ("say", "Hello.", "-o", "hello.wav"),
        ("profile", "--runs", "1", "--text", "Hello."),
    ],
    ids=lambda command: command[0],
)
def test_a_command_works(
    engine: str, command: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = ("--set", f"data_dir={tmp_path}")
    done = run(*command, "--engine", engine, *data)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_bench_measures_a_server_that_runs_there(server: LiveServer, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = run("bench", "--url", server.url, "-n", "2", "--warmup", "0", "--json", str(report))
    assert done.returncode == 0, done.stdout + done.stderr
    assert report.exists()


def test_a_recording_is_decoded_there(server: LiveServer) -> None:
    """In a process that cannot be bound as Linux bounds it."""
    sound, written = np.random.default_rng(1).normal(0, 3_000, 48_000), io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(24_000)
        file.writeframes(sound.astype("<i2").tobytes())
    with server.client() as client:
        answer = client.post(
            "/v1/audio/speech/clone",
            data={"input": "Hello."},
            files={"file": ("me.wav", written.getvalue())},
        )
    assert answer.status_code == 200, answer.text


def test_keys_in_a_file_need_no_signal_to_be_read(tmp_path: Path) -> None:
    config = tmp_path / "vivavoce.toml"
    config.write_text('api_keys = ["one"]\n')
    command = ("env", f"VIVAVOCE_CONFIG={config}", *VIVAVOCE)
    with serving("fake", command=command) as live:
        assert live.process.poll() is None


def test_a_supervisor_says_that_it_cannot_be_had() -> None:
    done = run("serve", "--supervise", "--engine", "fake")
    assert done.returncode == 3
    assert "--supervise needs Linux or macOS" in done.stderr
