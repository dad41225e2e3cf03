"""Every example runs against a live server, or what it sends is answered."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def run(command: list[str], folder: Path, port: int) -> str:
    """What an example prints, run in an empty folder; fails with its output where it fails."""
    environment = os.environ | {"VIVAVOCE_URL": f"http://127.0.0.1:{port}"}
    ran = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False,
        timeout=100,
    )  # fmt: skip
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    return ran.stdout


def test_openais_sdk(server_port: int, tmp_path: Path) -> None:
    script = str(EXAMPLES / "openai_client.py")
    said = run([sys.executable, script, "Hello there.", "hello.wav"], tmp_path, server_port)
    assert "first sound after" in said
    with wave.open(str(tmp_path / "hello.wav")) as sound:
        assert sound.getframerate() == 24_000
        assert sound.getnframes() > 6_000


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_node(server_port: int, tmp_path: Path) -> None:
    script = str(EXAMPLES / "node" / "speak.mjs")
    said = run(["node", script, "Hello there.", "hello.pcm"], tmp_path, server_port)
    assert said.endswith("interrupted after the first piece\n")
    assert (tmp_path / "hello.pcm").stat().st_size > 12_000


@pytest.mark.parametrize(
    "request_of",
    [
        pytest.param({}, id="pipecat"),
        pytest.param({"speed": 1.0, "stream_format": "audio"}, id="livekit"),
    ],
)
def test_what_pipecat_and_livekit_send(request_of: dict[str, Any], server_port: int) -> None:
    from openai import OpenAI

    client = OpenAI(base_url=f"http://127.0.0.1:{server_port}/v1", api_key="none")
    with client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="alloy", input="Hello there.", response_format="pcm", **request_of
    ) as response:
        pieces = list(response.iter_bytes(4800))
    assert sum(map(len, pieces)) > 12_000
    assert response.headers["content-type"].startswith("audio/")


@pytest.mark.parametrize("name", ["pipecat_voice.py", "livekit_voice.py"])
def test_agents_examples_ask_for_what_is_tested_above(name: str) -> None:
    tree = ast.parse((EXAMPLES / name).read_text(encoding="utf-8"))
    words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert {"tts-1", "alloy", "VIVAVOCE_URL"} <= words


def test_every_example_is_in_the_list() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    kinds = ("*.py", "*.mjs")
    files = [file for kind in kinds for file in EXAMPLES.rglob(kind)]
    told_apart = {file.parent for file in EXAMPLES.glob("*/README.md")}
    lost = [
        name
        for file in files
        if (name := str(file.relative_to(EXAMPLES))) not in text and file.parent not in told_apart
    ]
    assert lost == []
