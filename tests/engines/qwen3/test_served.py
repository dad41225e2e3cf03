"""A server around tiny random checkpoints, over HTTP and WebSocket."""

from __future__ import annotations

import io
import json
import struct
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.sync.client import connect

from engines.served import PATIENCE_S, SPEECH, Served
from vivavoce.settings import Settings
from vivavoce.testing.random_qwen3 import make_random_checkpoint

HELLO = {"input": "Hello there.", "seed": 1}


def server_of(model: Path, data: Path, **settings: Any) -> Served:
    options = {"device": "cpu", "threads": 1, "positions": 256}
    return Served(
        Settings(
            engine="qwen3", model_id=str(model), qwen3=options, port=0, data_dir=data, **settings
        )
    )


@pytest.fixture(scope="module", params=["0.6B-CustomVoice", "0.6B-Base", "1.7B-VoiceDesign"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """Models that stop speaking soon."""
    folder = tmp_path_factory.mktemp("served")
    model = folder / request.param
    make_random_checkpoint(f"Qwen3-TTS-12Hz-{request.param}", model, tiny=True, eos_gain=4.0)
    server = server_of(model, folder / "data")
    server.start()
    yield server
    assert server.service.admission.running == 0
    server.stop()


@pytest.fixture
def base(served: Served) -> Served:
    if "Base" not in served.settings.model_id:
        pytest.skip("for Base models")
    return served


def recording() -> bytes:
    noise = np.random.default_rng(0).standard_normal(36_000) * 3_000
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, 24_000, 0, "NONE", ""))
        sound.writeframes(noise.astype("<i2").tobytes())
    return file.getvalue()


def described(served: Served) -> dict[str, Any]:
    design = "Design" in served.settings.model_id
    return HELLO | ({"instructions": "An old man."} if design else {})


def test_it_speaks_in_every_openai_voice_it_lists(served: Served) -> None:
    for voice in ("alloy", served.service.engine.voices()[0].id):
        answer = served.client.post(
            SPEECH, json=described(served) | {"voice": voice, "response_format": "wav"}
        )
        assert answer.status_code == 200, answer.text
        with wave.open(io.BytesIO(answer.content)) as sound:
            assert sound.getframerate() == 24_000 and sound.getnframes() >= 1920


def test_a_limit_of_the_callers_own_is_no_failure(served: Served) -> None:
    asked = described(served) | {"options": {"max_frames": 2}, "response_format": "pcm"}
    answer = served.client.post(SPEECH, json=asked)
    assert answer.status_code == 200, answer.text
    # Joining trims silence and may stretch a pause; without the limit it speaks for longer.
    assert 0 < len(answer.content) <= 2 * 1920 * 4


def test_it_speaks_over_a_websocket(served: Served) -> None:
    with connect(f"ws://{served.address}{SPEECH}/ws", proxy=None) as socket:
        socket.send(json.dumps(described(served)))
        received, event = 0, ""
        while event not in ("done", "error"):
            message = socket.recv(timeout=PATIENCE_S)
            if isinstance(message, bytes):
                received += len(message)
            else:
                event = json.loads(message)["event"]
    assert event == "done" and received >= 2 * 1920


def test_health_and_info_tell_what_runs(served: Served) -> None:
    health = served.client.get("/health").json()
    assert health["status"] == "ok" and health["engine"] == "qwen3" and not health["cuda"]
    details = served.client.get("/v1/info").json()["details"]
    assert {"dtype", "torch", "why", "weights_mb"} <= set(details)


def test_what_is_refused_takes_no_slot(served: Served) -> None:
    for fields in ({"language": "klingon"}, {"voice": "nobody"}, {"input": " "}):
        answer = served.client.post(SPEECH, json=described(served) | fields)
        assert answer.status_code == 400, answer.text
    if "Design" in served.settings.model_id:
        answer = served.client.post(SPEECH, json=HELLO)
        assert answer.status_code == 400 and "instructions" in answer.text
    assert served.service.admission.running == 0


@pytest.mark.parametrize("field", ["instructions", "instruct"])
def test_instructions_are_followed_or_named_as_ignored(served: Served, field: str) -> None:
    """A client that always sends them works with every model."""
    answer = served.client.post(SPEECH, json=described(served) | {field: "Whisper."})
    assert answer.status_code == 200, answer.text
    ignored = "Design" not in served.settings.model_id  # the other two are 0.6B here
    assert answer.headers.get("X-Ignored-Fields", "") == "instructions" * ignored


@pytest.mark.parametrize("transcript", [None, "What was said."])
@pytest.mark.parametrize("stream", ["false", "true"])
def test_it_clones(base: Served, transcript: str | None, stream: str) -> None:
    fields = {"input": "Hello there.", "seed": "1", "stream": stream, "response_format": "pcm"}
    fields |= {} if transcript is None else {"ref_text": transcript}
    answer = base.client.post(
        f"{SPEECH}/clone", data=fields, files={"file": ("a.wav", recording())}
    )
    assert answer.status_code == 200, answer.text
    assert len(answer.content) >= 2 * 1920


def wav(samples: np.ndarray, rate_hz: int = 24_000, width: int = 2) -> bytes:
    """16-bit numbers, or 32-bit floats as a WAV file has them (format 3)."""
    body = samples.astype("<i2" if width == 2 else "<f4").tobytes()
    kind = 1 if width == 2 else 3
    layout = struct.pack("<HHIIHH", kind, 1, rate_hz, rate_hz * width, width, width * 8)
    chunks = b"WAVEfmt " + struct.pack("<I", len(layout)) + layout
    chunks += b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


BAD_RECORDINGS = {
    "0 bytes": b"",
    "1 sample": wav(np.ones(1)),
    "silence": wav(np.zeros(48_000)),
    "30 minutes": wav(np.ones(1_800 * 8_000), 8_000),
    "not a number": wav(np.full(48_000, np.nan), width=4),
    "renamed text": b"just some words" * 400,
}


@pytest.mark.parametrize("name", BAD_RECORDINGS)
def test_a_bad_recording_is_refused_and_the_server_goes_on(base: Served, name: str) -> None:
    for path, fields in ((f"{SPEECH}/clone", HELLO), ("/v1/audio/voices", {"name": "bad"})):
        answer = base.client.post(
            path, data=fields, files={"file": ("a.wav", BAD_RECORDINGS[name])}
        )
        assert answer.status_code in (400, 413), answer.text
        if name == "renamed text":
            assert answer.json()["error"]["code"] == "invalid_audio"
        assert answer.json()["error"]["message"]
    assert base.service.admission.running == 0
    assert base.client.post(SPEECH, json=HELLO).status_code == 200


@pytest.mark.parametrize("transcript", [" ", "many words " * 400])
def test_a_transcript_that_cannot_be_is_refused(base: Served, transcript: str) -> None:
    fields = {"input": "Hello there.", "ref_text": transcript}
    answer = base.client.post(
        f"{SPEECH}/clone", data=fields, files={"file": ("a.wav", recording())}
    )
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "ref_text"
    assert base.service.admission.running == 0


def test_a_saved_voice_speaks(base: Served) -> None:
    answer = base.client.post(
        "/v1/audio/voices",
        data={"name": "narrator", "ref_text": "What was said."},
        files={"file": ("a.wav", recording())},
    )
    assert answer.status_code in (200, 201), answer.text
    base.client.post("/cache/clear")  # read it from the disk again
    answer = base.client.post(SPEECH, json=HELLO | {"voice": "narrator", "response_format": "pcm"})
    assert answer.status_code == 200, answer.text
    assert len(answer.content) >= 2 * 1920
    assert base.client.delete("/v1/audio/voices/narrator").status_code in (200, 204)
