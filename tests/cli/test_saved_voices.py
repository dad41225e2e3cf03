"""``vivavoce voices add, import, remove, export``, beside a library that somebody else uses."""

from __future__ import annotations

import json
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from faults.processes import server_process
from vivavoce.errors import UnknownVoice
from vivavoce.speech.voices import VoiceLibrary
from vivavoce.testing.fake_engine import FakeEngine

Run = Callable[..., Any]


@pytest.fixture
def library(tmp_path: Path) -> VoiceLibrary:
    """What a running server has of the same folder, opened before anything is saved."""
    opened = VoiceLibrary(FakeEngine(), tmp_path / "data" / "voices")
    opened.saved()
    return opened


def record(file: Path, says: str | None = None, pitch_hz: float = 200.0) -> Path:
    """A second of a tone, and a text file beside it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    tone = np.sin(np.arange(16_000) * 2 * np.pi * pitch_hz / 16_000) * 9_000
    with wave.open(str(file), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16_000)
        sound.writeframes(tone.astype("<i2").tobytes())
    if says is not None:
        file.with_suffix(".txt").write_text(says, encoding="utf-8")
    return file


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """A folder as the old servers kept them."""
    folder = tmp_path / "samples"
    record(folder / "scarlett.wav", "What Scarlett says.")
    record(folder / "jo.WAV", "What Jo says.", 300.0)
    (folder / "notes.txt").write_text("no voice")
    return folder


def names(library: VoiceLibrary) -> list[str]:
    return [voice.id for voice in library.saved()]


def test_a_voice_is_added_and_speaks_at_once(
    vivavoce: Run, library: VoiceLibrary, tmp_path: Path
) -> None:
    with pytest.raises(UnknownVoice):
        library.resolve("anna")
    file = record(tmp_path / "anna.wav")
    ran = vivavoce("voices", "add", "anna", str(file), "--text", "It says this.",
                   "--description", "A tone.", "--consent", "yes")  # fmt: skip
    assert (ran.status, ran.out) == (0, "anna\n")
    voice = library.resolve("anna")
    assert (voice.description, voice.consent) == ("A tone.", "yes")
    assert vivavoce("say", "Hello.", "--voice", "anna", "-o", str(tmp_path / "a.wav")).status == 0


def test_what_cannot_be_added_is_told_before_a_model_is_loaded(
    vivavoce: Run, library: VoiceLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = record(tmp_path / "anna.wav")
    vivavoce("voices", "add", "anna", str(file))
    monkeypatch.setenv("VIVAVOCE_FAKE__FAULT", "load:raise")
    for arguments, said in (
        (["anna", str(file)], "exists already"),
        (["alloy", str(file)], "exists already"),
        (["a/b", str(file)], "A name has 1 to 64"),
        (["bob", str(tmp_path / "none.wav")], "is no file"),
        (["bob", str(file), "--text", " "], "--text is empty"),
        (["bob", str(file), "--set", "require_consent=true"], "--consent"),
        (["bob", str(file), "--set", "max_saved_voices=1"], "max_saved_voices"),
    ):
        ran = vivavoce("voices", "add", *arguments)
        assert (ran.status, said in ran.err) == (2, True), ran.err
    assert names(library) == ["anna"]


def test_a_recording_that_is_none(vivavoce: Run, library: VoiceLibrary, tmp_path: Path) -> None:
    (tmp_path / "noise.wav").write_bytes(b"no sound at all")
    ran = vivavoce("voices", "add", "noise", str(tmp_path / "noise.wav"))
    assert ran.status == 2 and "recording" in ran.err
    ran = vivavoce("voices", "add", "anna", str(record(tmp_path / "anna.wav")),
                   "--set", "fake.cloning=false")  # fmt: skip
    assert ran.status == 2 and "cannot clone voices" in ran.err
    assert names(library) == []


def test_a_voice_is_replaced_only_where_that_is_said(
    vivavoce: Run, library: VoiceLibrary, tmp_path: Path
) -> None:
    vivavoce("voices", "add", "anna", str(record(tmp_path / "anna.wav")))
    before = library.resolve("anna")
    other = record(tmp_path / "other.wav", pitch_hz=400.0)
    assert vivavoce("voices", "add", "anna", str(other)).status == 2
    assert library.resolve("anna").version == before.version
    assert vivavoce("voices", "add", "anna", str(other), "--replace").status == 0
    after = library.resolve("anna")
    assert after.version != before.version and after.data != before.data
    assert vivavoce("voices", "add", "alto", str(other), "--replace").status == 2


def test_a_folder_of_recordings(vivavoce: Run, library: VoiceLibrary, samples: Path) -> None:
    ran = vivavoce("voices", "import", str(samples), "--consent", "told me")
    assert (ran.status, ran.out.splitlines()) == (0, ["jo", "scarlett"])
    assert names(library) == ["jo", "scarlett"]
    assert library.resolve("jo").consent == "told me"
    again = vivavoce("voices", "import", str(samples))
    assert (again.status, again.out) == (0, "")
    assert "jo: is saved already" in again.err
    assert vivavoce("voices", "import", str(samples), "--replace").status == 0
    assert library.resolve("jo").consent == ""


def test_the_words_beside_a_recording_are_those_it_is_cloned_with(
    vivavoce: Run, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: dict[int, str | None] = {}
    clone = FakeEngine.clone

    def listening(self: FakeEngine, reference: Any) -> Any:
        heard[len(heard)] = reference.transcript
        return clone(self, reference)

    monkeypatch.setattr(FakeEngine, "clone", listening)
    vivavoce("voices", "import", str(samples))
    assert list(heard.values()) == ["What Jo says.", "What Scarlett says."]
    vivavoce("voices", "add", "beside", str(samples / "scarlett.wav"))
    vivavoce("voices", "add", "named", str(samples / "scarlett.wav"), "--text", "Other words.")
    # The first is known by its sound and words already.
    assert list(heard.values())[2:] == ["What Scarlett says.", "Other words."]


def test_one_bad_recording_stops_no_other(
    vivavoce: Run, library: VoiceLibrary, samples: Path
) -> None:
    (samples / "broken.wav").write_bytes(b"no sound")
    record(samples / "empty.wav", "")
    record(samples / "alloy.wav")
    ran = vivavoce("voices", "import", str(samples))
    assert ran.status == 2
    for said in ("broken: ", "empty.txt is empty", "alloy: A voice named 'alloy' exists",
                 "Not imported: alloy, broken, empty."):  # fmt: skip
        assert said in ran.err
    assert names(library) == ["jo", "scarlett"]


def test_a_folder_without_voices(vivavoce: Run, tmp_path: Path) -> None:
    assert "neither recordings nor" in vivavoce("voices", "import", str(tmp_path)).err
    assert "cannot be read" in vivavoce("voices", "import", str(tmp_path / "none")).err


def test_voices_are_removed(vivavoce: Run, library: VoiceLibrary, samples: Path) -> None:
    vivavoce("voices", "import", str(samples))
    assert library.resolve("jo").id == "jo"
    assert vivavoce("voices", "remove", "jo").status == 0
    with pytest.raises(UnknownVoice):
        library.resolve("jo")
    for name, said in (("jo", "No saved voice"), ("alto", "built in")):
        ran = vivavoce("voices", "remove", name)
        assert (ran.status, said in ran.err) == (2, True)
    assert names(library) == ["scarlett"]


def test_voices_travel(vivavoce: Run, library: VoiceLibrary, samples: Path, tmp_path: Path) -> None:
    vivavoce("voices", "import", str(samples), "--consent", "told me", "--description", "Old.")
    jo, there = library.resolve("jo"), tmp_path / "there"
    assert vivavoce("voices", "export", "--to", str(there)).out.split() == ["jo", "scarlett"]
    assert sorted(path.name for path in there.iterdir()) == [
        "jo.json", "jo.voice", "scarlett.json", "scarlett.voice",
    ]  # fmt: skip
    assert "holds a voice named 'jo'" in vivavoce("voices", "export", "jo", "--to", str(there)).err
    assert vivavoce("voices", "export", "jo", "--to", str(there), "--replace").status == 0
    vivavoce("voices", "remove", "jo", "scarlett")
    assert "No voice is saved" in vivavoce("voices", "export", "--to", str(there)).err
    assert "No saved voice" in vivavoce("voices", "export", "jo", "--to", str(there)).err
    ran = vivavoce("voices", "import", str(there), "--set", "require_consent=true")
    assert (ran.status, ran.out.split()) == (0, ["jo", "scarlett"])
    back = library.resolve("jo")
    assert (back.data, back.consent, back.description) == (jo.data, "told me", "Old.")


def test_an_exported_voice_of_another_engine_is_refused(
    vivavoce: Run, library: VoiceLibrary, samples: Path, tmp_path: Path
) -> None:
    vivavoce("voices", "import", str(samples))
    there = tmp_path / "there"
    vivavoce("voices", "export", "jo", "--to", str(there))
    (there / "jo.voice").write_bytes(b"of another engine")
    vivavoce("voices", "remove", "jo")
    ran = vivavoce("voices", "import", str(there))
    assert ran.status == 2 and "jo: The saved voice is damaged." in ran.err
    assert names(library) == ["scarlett"]


def test_a_server_that_runs_has_them_at_once(vivavoce: Run, samples: Path, tmp_path: Path) -> None:
    with server_process(tmp_path / "data") as server, httpx.Client(base_url=server.url) as client:
        server.until(lambda: client.get("/readyz").status_code == 200)

        def speaks() -> int:
            body = {"input": "Hello.", "voice": "scarlett", "response_format": "wav"}
            return client.post("/v1/audio/speech", json=body).status_code

        assert speaks() == 400
        assert vivavoce("voices", "import", str(samples)).status == 0
        listed = client.get("/v1/audio/voices").json()["data"]
        assert {"jo", "scarlett"} <= {voice["id"] for voice in listed}
        assert speaks() == 200
        assert vivavoce("voices", "remove", "scarlett").status == 0
        assert speaks() == 400


def test_the_list_names_recordings_that_are_no_voices(
    vivavoce: Run, samples: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    record(tmp_path / "data" / "voices" / "fake" / "stray.wav")
    listed = json.loads(vivavoce("voices", "--json").out)
    assert "stray" not in {row["voice"] for row in listed}
    (warned,) = caplog.records
    assert warned.levelname == "WARNING"
    folder = tmp_path / "data" / "voices" / "fake"
    assert f"stray.wav. To make voices of them: vivavoce voices import {folder}" in warned.message
    caplog.clear()
    vivavoce("voices", "import", str(folder))
    vivavoce("voices")
    assert not caplog.records
