"""The NeuTTS Air server's old client against ``compat=neutts-server``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serving.compat.old_clients import ask_desk, samples_of
from serving.conftest import LiveServer, Serve
from vivavoce.serving.compat.neutts_air import root_of, text_fields
from vivavoce.serving.compat.old_server import Voices

TEXT = "Good morning to you."


@pytest.fixture
def desk(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LiveServer:
    """Started in a folder of its own, with a loudspeaker that makes no sound."""
    folder = tmp_path / "desk"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return serve(compat="neutts-server", playback="null", output_dir=".")


def test_it_plays_and_writes_where_it_was_started(desk: LiveServer) -> None:
    answer = ask_desk(desk.port, {"text": TEXT, "voice": "scarlett", "output": "tts_temp.wav"})
    assert answer.status == 200
    assert answer.told["status"] == "ok"
    rate_hz, sound = samples_of(Path(answer.told["output"]).read_bytes())
    assert rate_hz == 24_000
    assert len(sound) > 24_000


def test_its_own_names(desk: LiveServer) -> None:
    assert ask_desk(desk.port, {"text": TEXT}).told["output"] == "tts_output.wav"
    assert Path("tts_output.wav").is_file()


@pytest.mark.parametrize("path", ["/", "/speak", "/synthesize/now?x=1"])
def test_it_looks_at_no_path(desk: LiveServer, path: str) -> None:
    assert ask_desk(desk.port, {"text": TEXT, "output": "a.wav"}, path).told["output"] == "a.wav"


def test_our_own_endpoints_are_still_there(desk: LiveServer) -> None:
    answer = ask_desk(desk.port, {"input": TEXT, "response_format": "wav"}, "/v1/audio/speech")
    assert answer.body.startswith(b"RIFF")
    assert desk.client.get("/health").json()["status"] == "ok"


@pytest.mark.parametrize(
    "fields", [{}, {"text": ""}, {"text": None}, {"text": " "}, {"voice": "scarlett"}]
)
def test_a_text_is_needed(desk: LiveServer, fields: dict[str, Any]) -> None:
    assert ask_desk(desk.port, fields).status == 400


@pytest.mark.parametrize("name", ["../b.wav", "/etc/b.wav", "..", "a/../../b.wav", "x.exe"])
def test_it_writes_below_its_folder_only(desk: LiveServer, name: str) -> None:
    answer = ask_desk(desk.port, {"text": TEXT, "output": name})
    assert answer.status == 400
    assert "output" in answer.told["error"]["message"]


def test_a_page_cannot_make_it_speak(desk: LiveServer) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        asked = desk.client.post("/", content=b'{"text": "Hi."}', headers={"Content-Type": kind})
        assert asked.status_code == 400


def test_a_client_token_opens_no_path_by_another_name(serve: Serve, tmp_path: Path) -> None:
    server = serve(
        compat="neutts-server", playback="null", output_dir=tmp_path, api_keys=("secret",)
    )
    key = {"Authorization": "Bearer secret"}
    token = server.client.post("/v1/client_tokens", json={}, headers=key).json()
    mine = {"Authorization": f"Bearer {token.get('value') or token.get('token')}"}
    for path in ("/", "/speak"):
        asked = server.client.post(path, json={"text": TEXT}, headers=mine)
        assert asked.status_code == 403, asked.text
        assert server.client.post(path, json={"text": TEXT}, headers=key).status_code == 200


def test_voices() -> None:
    mine = ("alto", "jo", "scarlett")
    assert text_fields({}, Voices(mine))["voice"] == "scarlett"
    assert text_fields({"voice": "Jo"}, Voices(mine))["voice"] == "jo"
    assert text_fields({"voice": "gone"}, Voices(mine))["voice"] == "scarlett"
    assert text_fields({"voice": "gone"}, Voices(("alto",)))["voice"] is None
    assert text_fields({"voice": "gone"}, Voices(mine, "alto"))["voice"] == "alto"
    assert text_fields({"voice": 7}, Voices(mine))["voice"] == 7


def test_paths() -> None:
    assert root_of("POST", "/tts") == "/"
    assert root_of("GET", "/tts") == "/tts"
    assert root_of("POST", "/v1/audio/speech") == "/v1/audio/speech"
