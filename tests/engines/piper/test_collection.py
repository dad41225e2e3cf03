"""Voices of the public collection by name."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.hub_server import HubServer
from vivavoce.engines.piper.collection import download_voice, is_voice_name
from vivavoce.engines.piper.engine import PiperEngine
from vivavoce.engines.piper.options import PiperOptions
from vivavoce.engines.piper.voice_files import packaged_voice
from vivavoce.errors import MissingExtra, ModelFileError, SettingsError

REPO = "rhasspy/piper-voices"
NAME = "en_GB-test-low"
PLACE = f"en/en_GB/test/low/{NAME}"

Publish = Callable[[bytes], None]


@pytest.fixture
def publish(hub_server: HubServer) -> Publish:
    def published(model: bytes) -> None:
        files = {f"{PLACE}.onnx": model, f"{PLACE}.onnx.json": b"{}", "de/other.onnx": b"other"}
        hub_server.publish(REPO, files)

    return published


def test_a_checked_voice_is_put_in_place(
    hub_server: HubServer, publish: Publish, tmp_path: Path
) -> None:
    publish(b"model")
    files = download_voice(NAME, tmp_path / "voices", REPO)
    assert hashlib.sha256(files.model.read_bytes()).digest() == hashlib.sha256(b"model").digest()
    left = [path.name for path in (tmp_path / "voices").iterdir() if path.suffix != ".lock"]
    assert sorted(left) == [f"{NAME}.onnx", f"{NAME}.onnx.json"]
    assert "de/other.onnx" not in hub_server.fetched


def test_a_damaged_voice_is_refused(
    hub_server: HubServer, publish: Publish, tmp_path: Path
) -> None:
    publish(b"model")
    hub_server.damaged = {f"{PLACE}.onnx"}
    with pytest.raises(ModelFileError, match="SHA-256"):
        download_voice(NAME, tmp_path, REPO)
    assert not list(tmp_path.glob("*.onnx"))


def test_downloads_that_cannot_work_say_why(
    hub_server: HubServer, publish: Publish, tmp_path: Path
) -> None:
    publish(b"model")
    with pytest.raises(ModelFileError, match="holds no voice en_GB-nobody-low"):
        download_voice("en_GB-nobody-low", tmp_path, REPO)
    with pytest.raises(SettingsError, match="not a voice name"):
        download_voice("../../etc/passwd", tmp_path, REPO)
    hub_server.refusals = {f"{PLACE}.onnx": 1}
    with pytest.raises(ModelFileError, match="503"):
        download_voice(NAME, tmp_path, REPO)
    with pytest.raises(ModelFileError, match="no repository me/none"):
        download_voice(NAME, tmp_path, "me/none")


def test_the_default_voice_is_downloaded_when_allowed(publish: Publish, tmp_path: Path) -> None:
    packaged = packaged_voice()
    assert packaged is not None
    publish(packaged.model.read_bytes()[:100])
    options = PiperOptions(voice=NAME, download=True, cache_dir=tmp_path)
    with pytest.raises(ModelFileError, match="not a Piper voice configuration"):
        PiperEngine(options).load()
    assert (tmp_path / "piper" / "voices" / f"{NAME}.onnx").is_file()


def test_without_the_client_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match="'hub'"):
        download_voice(NAME, tmp_path, REPO)


def test_names_of_voices() -> None:
    assert is_voice_name("en_GB-alba-medium")
    assert not is_voice_name("neuphonic/neutts-air")
    assert not is_voice_name("Qwen3-TTS-12Hz-0.6B-Base")
