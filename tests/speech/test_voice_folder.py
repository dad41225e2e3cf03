"""Recordings in folders: which are found, and what is said of those that nobody uses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vivavoce.engines.base import Capabilities
from vivavoce.errors import InputError
from vivavoce.speech.service import ServiceOptions, SpeechService
from vivavoce.speech.voice_folder import (
    exported_in,
    recordings_in,
    transcript_beside,
    warn_of_recordings,
)
from vivavoce.speech.voices import VoiceLibrary
from vivavoce.testing.fake_engine import FakeEngine


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).touch()


def test_one_recording_a_name(tmp_path: Path) -> None:
    touch(tmp_path, "jo.mp3", "jo.wav", "anna.FLAC", "notes.txt", "codes.npy", ".hidden.wav")
    (tmp_path / "folder.wav").mkdir()
    found = [(each.name, each.file.name) for each in recordings_in(tmp_path)]
    assert found == [("anna", "anna.FLAC"), ("jo", "jo.wav")]
    with pytest.raises(InputError, match="cannot be read"):
        recordings_in(tmp_path / "none")


def test_what_a_recording_says(tmp_path: Path) -> None:
    file, beside = tmp_path / "jo.wav", tmp_path / "jo.txt"
    assert transcript_beside(file) is None
    beside.write_bytes("\ufeff  Grüß Gott.\r\n".encode())
    assert transcript_beside(file) == "Grüß Gott."
    beside.write_bytes(b" \n")
    with pytest.raises(InputError, match=r"jo\.txt is empty"):
        transcript_beside(file)
    beside.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not UTF-8"):
        transcript_beside(file)


def test_files_of_codes_are_no_exported_voices(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "emily.json").write_text("[1, 2, 3]")
    assert exported_in(tmp_path) == {}
    assert not caplog.records


def test_unused_recordings_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "my samples"
    folder.mkdir()
    touch(
        folder, "alto.wav", "dave.wav", "dave.txt", *(f"v{number:02}.wav" for number in range(30))
    )
    engine = FakeEngine()
    library = VoiceLibrary(engine, None)
    warn_of_recordings(library, engine.info, [folder, tmp_path / "none"])
    (told,) = [record.message for record in caplog.records]
    assert "alto" not in told and "dave.wav, v00.wav" in told and "and 11 more" in told
    assert told.endswith(f"vivavoce voices import '{folder}' --engine fake")
    caplog.clear()
    warn_of_recordings(library, replace(engine.info, capabilities=Capabilities()), [folder])
    assert "makes no voices of recordings" in caplog.text and "import" not in caplog.text


async def test_a_server_says_so_when_it_starts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "dave.wav")
    service = SpeechService(FakeEngine(), ServiceOptions(recordings_folders=[tmp_path]))
    await service.start()
    await service.close()
    assert f"{tmp_path} holds recordings that are not used: dave.wav." in caplog.text
