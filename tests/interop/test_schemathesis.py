"""The description is true: schemathesis attacks the running server with it.

Every check that schemathesis offers is on. One of them is given more room: see ``CONFIGURATION``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from quality.live import LiveServer, serving

# ``positive_data_acceptance`` may see a 400: no schema can say that a text holds something to
# speak, that a file is a recording, or that a voice of that name exists; nor can it foresee a
# full queue (429).
CONFIGURATION = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 400, 401, 403, 404, 409, 429, "5xx"]
"""
FAKE = {"audio_cache_max": 0, "max_input_chars": 400}


def attack(live: LiveServer, folder: Path, *words: str, examples: int, seed: int = 1) -> None:
    """Run schemathesis; its report is the message of a failure."""
    (folder / "schemathesis.toml").write_text(CONFIGURATION)
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{live.url}/openapi.json"),
        *("--checks", "all", "--max-examples", str(examples), "--seed", str(seed)),
        # With more workers, CPython 3.11 may fail to parse a lambda's source in a thread.
        *("--workers", "1", "--no-color", "--max-response-time", "30", *words),
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    assert " passed" in done.stdout
    assert "Traceback" not in live.log.read_text()


@pytest.mark.timeout(240)
def test_the_server_answers_as_it_is_described(tmp_path: Path) -> None:
    with serving("fake", FAKE) as live:
        attack(live, tmp_path, examples=5)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_server_with_keys_lets_nobody_in_without_one(tmp_path: Path) -> None:
    with serving("fake", FAKE | {"api_keys": "the-key"}) as live:
        key = ("--header", "Authorization: Bearer the-key")
        attack(live, tmp_path, *key, "--phases", "fuzzing", examples=3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_server_stands_a_long_attack(tmp_path: Path) -> None:
    with serving("fake", FAKE) as live:
        attack(live, tmp_path, examples=400, seed=2)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_piper_stands_an_attack(tmp_path: Path) -> None:
    with serving("piper", FAKE) as live:
        attack(live, tmp_path, "--include-path-regex", "^/v1/audio", examples=15, seed=3)
