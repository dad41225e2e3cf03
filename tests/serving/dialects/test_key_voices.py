"""A key's list of voices: damaged ones mean nothing in it, and comparing reads no file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from tests.serving.conftest import LiveServer, Serve

from vivavoce.key_table import MAX_VOICE_CHARS, MAX_VOICES, KeyTable, digest_of
from vivavoce.speech.voices import VoiceLibrary
from vivavoce.testing.fake_engine import FakeEngine
from vivavoce.types import ReferenceAudio

KEY = "the key of acme"
HEADERS = {"X-API-Key": KEY}

Listed = Callable[..., LiveServer]


@pytest.fixture
def listed(serve: Serve, tmp_path: Path) -> Listed:
    """A server with these saved voices, some of them damaged, and a key that may speak as them."""

    def start(*names: str, also: tuple[str, ...] = (), damaged: tuple[str, ...] = ()) -> LiveServer:
        engine = FakeEngine()
        library = VoiceLibrary(engine, tmp_path / "voices")
        voice = engine.clone(ReferenceAudio(np.ones(1000, np.float32), 16_000))
        for name in (*names, *damaged):
            library.save(name, voice)
        for name in damaged:
            (tmp_path / "voices" / "fake" / f"{name}.voice").write_bytes(b"garbage")
        table = {
            "name": "acme",
            "sha256": digest_of(KEY).hex(),
            "voices": [*also, *names, *damaged],
        }
        return serve(api_keys=("the key of the owner",), keys=(table,))

    return start


def test_a_damaged_voice_of_a_list_takes_nothing_from_the_others(listed: Listed) -> None:
    server = listed(also=("alto",), damaged=("w3",))
    client = server.client
    broken = client.post("/v1/audio/speech", json={"input": "Hi.", "voice": "w3"}, headers=HEADERS)
    assert broken.status_code == 500
    for path in ("/v1/audio/voices", "/health", "/v1/info"):
        assert client.get(path, headers=HEADERS).status_code == 200, path
    ids = {entry["id"] for entry in client.get("/v1/audio/voices", headers=HEADERS).json()["data"]}
    assert "alto" in ids
    assert "w3" not in ids
    for voice, status in (("alto", 200), ("alloy", 200), ("bass", 403)):
        body = {"input": "Hi.", "voice": voice}
        assert client.post("/v1/audio/speech", json=body, headers=HEADERS).status_code == status


def test_comparing_with_a_list_reads_no_voice(
    listed: Listed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would be a file read on the event loop, which every other caller waits for."""
    server = listed(*(f"w{number}" for number in range(40)))
    read: list[bytes] = []
    real = server.engine.voice_from_bytes
    monkeypatch.setattr(
        server.engine, "voice_from_bytes", lambda data: read.append(data) or real(data)
    )
    for path in ("/v1/audio/voices", "/health", "/v1/info"):
        assert "w39" in server.client.get(path, headers=HEADERS).text
    body = {"input": "Hi.", "voice": "bass"}
    refusal = server.client.post("/v1/audio/speech", json=body, headers=HEADERS)
    assert refusal.status_code == 403
    assert "w19 and 20 more" in refusal.json()["error"]["message"]
    assert read == []


def test_a_list_has_a_bound() -> None:
    digest = digest_of(KEY).hex()
    voices = tuple(f"v{number}" for number in range(MAX_VOICES))
    assert KeyTable(name="acme", sha256=digest, voices=voices).voices == voices
    for wrong in ((*voices, "one more"), ("x" * (MAX_VOICE_CHARS + 1),)):
        with pytest.raises(ValidationError):
            KeyTable(name="acme", sha256=digest, voices=wrong)
