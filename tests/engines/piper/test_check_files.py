"""Voices are found before anything is loaded, and what is missing is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.served import SPEECH, Served
from runtime.hub_server import HubServer
from vivavoce.engines.piper.engine import PiperEngine
from vivavoce.engines.piper.options import PiperOptions
from vivavoce.errors import ModelFileError, SettingsError
from vivavoce.settings import Settings


def test_the_first_request_loads_the_voice(cache_dir: Path, tmp_path: Path) -> None:
    served = Served(
        Settings(
            engine="piper",
            port=0,
            data_dir=tmp_path,
            preload_model=False,
            piper={"cache_dir": str(cache_dir)},
        )
    )
    served.start()
    try:
        ready = served.client.get("/readyz")
        assert (ready.status_code, ready.json()["state"]) == (200, "unloaded")
        listed = served.client.get("/v1/audio/voices").json()["voices"]
        assert listed[0]["id"] == "en_US-joe-medium"
        body = {"input": "Hello.", "voice": "alloy", "response_format": "pcm"}
        answer = served.client.post(SPEECH, json=body)
        assert answer.status_code == 200
        assert len(answer.content) > 10_000
        assert served.client.get("/readyz").json()["state"] == "ready"
    finally:
        served.stop()


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    engine = PiperEngine(PiperOptions(model=tmp_path / "none.onnx"))
    with pytest.raises(ModelFileError, match=r"none\.onnx"):
        engine.check_files()


def test_a_voice_that_is_not_there_is_named() -> None:
    with pytest.raises(SettingsError, match="nobody"):
        PiperEngine(PiperOptions(voice="nobody")).check_files()


def test_nothing_is_downloaded(hub_server: HubServer, tmp_path: Path) -> None:
    options = PiperOptions(voice="en_GB-alan-low", download=True, cache_dir=tmp_path)
    with pytest.raises(ModelFileError, match="preload_model=true"):
        PiperEngine(options).check_files()
    assert hub_server.asked == []
