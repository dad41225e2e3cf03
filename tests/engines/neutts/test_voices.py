"""Voices: as bytes, in folders, and under other servers' names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.engines.neutts.family import NANO, TWO_E
from vivavoce.engines.neutts.voices import (
    ALIASES,
    ReferenceVoice,
    builtin_voices,
    read_reference,
    reference_of,
    references_in,
)
from vivavoce.engines.voices import OPENAI_VOICES, default_first, openai_aliases
from vivavoce.errors import InputError, ModelFileError, SettingsError
from vivavoce.types import Voice

CODES = np.array([0, 5, 65_535], np.int32)


def write(folder: Path, name: str, text: str = "What was said.") -> Path:
    np.save(folder / f"{name}.npy", CODES)
    (folder / f"{name}.txt").write_text(text)
    return folder / f"{name}.npy"


def test_bytes_and_back() -> None:
    state = ReferenceVoice(CODES, "Grüße, “dear” all.", "de")
    again = ReferenceVoice.from_bytes(state.to_bytes())
    np.testing.assert_array_equal(again.codes, CODES)
    assert again.codes.dtype == np.int32
    assert (again.transcript, again.language) == (state.transcript, "de")
    assert again.digest() == state.digest()


@pytest.mark.parametrize(
    "damage",
    [
        {"codes": []}, {"codes": [-1]}, {"codes": [65_536]}, {"codes": [1.5]}, {"codes": "12"},
        {"codes": [[1], [2]], "transcript": ""}, {"transcript": " "}, {"format": "other"},
        {"codes": None},
    ],
)  # fmt: skip
def test_damaged_bytes_are_refused(damage: dict[str, object]) -> None:
    told = json.loads(ReferenceVoice(CODES, "Hi.", "en").to_bytes()) | damage
    with pytest.raises(ModelFileError):
        ReferenceVoice.from_bytes(json.dumps(told).encode())


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ModelFileError):
        ReferenceVoice.from_bytes(data)


def test_cut_bytes_are_refused() -> None:
    whole = ReferenceVoice(CODES, "Hi.", "en").to_bytes()
    for length in range(len(whole)):
        with pytest.raises(ModelFileError):
            ReferenceVoice.from_bytes(whole[:length])


def test_a_folder_of_voices(tmp_path: Path) -> None:
    write(tmp_path, "zoe")
    (tmp_path / "ann.json").write_text(json.dumps({"codes": [1, 2], "transcript": "Two."}))
    (tmp_path / "bea.json").write_text("[3, 4]")
    (tmp_path / "bea.txt").write_text("Two more.")
    (tmp_path / "notes.md").write_text("not a voice")
    voices = builtin_voices(NANO, tmp_path, "en")
    assert [voice.id for voice in voices] == ["ann", "bea", "zoe"]
    assert reference_of(voices[1]).codes.tolist() == [3, 4]
    assert reference_of(voices[2]).transcript == "What was said."


def test_codes_that_torch_saved(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save(torch.tensor(CODES), tmp_path / "emily.pt")
    (tmp_path / "emily.txt").write_text("Hello.")
    (found,) = references_in(tmp_path)
    np.testing.assert_array_equal(found.codes, CODES)


def test_no_transcript_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, "zoe", text="  ")
    with pytest.raises(ModelFileError, match="empty"):
        read_reference(path)
    (tmp_path / "zoe.txt").unlink()
    with pytest.raises(ModelFileError, match=r"zoe\.txt"):
        read_reference(path)


@pytest.mark.parametrize("name", ["a.npy", "a.json", "a.pt"])
def test_damaged_files_are_errors(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"nothing of the kind")
    (tmp_path / "a.txt").write_text("Hi.")
    with pytest.raises(ModelFileError):
        read_reference(tmp_path / name)


def test_without_voices_the_model_invents_one() -> None:
    (nobody,) = builtin_voices(NANO, None, "en")
    assert nobody.id == "nobody" and len(reference_of(nobody).codes) == 0


def test_2e_has_its_own_speakers_only(tmp_path: Path) -> None:
    for name in ("paul", "stranger", "emily"):
        write(tmp_path, name)
    assert [voice.id for voice in builtin_voices(TWO_E, tmp_path, "en")] == ["emily", "paul"]


def test_openais_names_speak(tmp_path: Path) -> None:
    for name in ("paul", "emily"):
        write(tmp_path, name)
    voices = builtin_voices(TWO_E, tmp_path, "en")
    aliases = openai_aliases(voices, ALIASES)
    assert set(aliases) == set(OPENAI_VOICES)
    assert aliases["ash"] == "paul" and aliases["onyx"] == "emily"
    assert default_first(voices, "ash", ALIASES)[0].id == "paul"
    with pytest.raises(SettingsError, match="nobody-here"):
        default_first(voices, "nobody-here", ALIASES)


def test_a_voice_of_another_engine_is_refused() -> None:
    with pytest.raises(InputError):
        reference_of(Voice("x", "qwen3", data=object()))
