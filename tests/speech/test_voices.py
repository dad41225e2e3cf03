"""The voice library: names resolve, clones survive a restart, nothing is half written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vivavoce.engines.fake import FakeEngine
from vivavoce.errors import Conflict, InputError, ModelFileError, NotFound, UnknownVoice
from vivavoce.speech.voices import OPENAI_VOICES, VoiceLibrary
from vivavoce.types import ReferenceAudio, Voice


@pytest.fixture
def library(tmp_path: Path) -> VoiceLibrary:
    return VoiceLibrary(FakeEngine(), tmp_path)


def clone(seed: int = 0) -> Voice:
    samples = np.random.default_rng(seed).normal(size=1000).astype(np.float32)
    return FakeEngine().clone(ReferenceAudio(samples, 16_000))


@pytest.mark.parametrize("name", OPENAI_VOICES)
def test_every_openai_name_speaks(library: VoiceLibrary, name: str) -> None:
    assert library.resolve(name).id == "alto"


def test_no_name_means_the_default(library: VoiceLibrary) -> None:
    assert library.resolve(None).id == library.resolve("").id == "alto"


def test_an_unknown_name_lists_the_known(library: VoiceLibrary) -> None:
    with pytest.raises(UnknownVoice, match=r"Unknown voice 'bob'.*alto"):
        library.resolve("bob")


@pytest.mark.parametrize("name", ["../evil", "a/b", "..", "nul\0", "x" * 1000, "C:\\x"])
def test_a_name_that_is_a_path_is_just_unknown(library: VoiceLibrary, name: str) -> None:
    with pytest.raises(UnknownVoice):
        library.resolve(name)
    with pytest.raises(InputError):
        library.save(name, clone())


def test_a_saved_voice_survives_a_restart(tmp_path: Path) -> None:
    saved = VoiceLibrary(FakeEngine(), tmp_path).save("anna", clone(), "a caller")
    found = VoiceLibrary(FakeEngine(), tmp_path).resolve("anna")
    assert found.data == saved.data
    assert found.kind == "cloned"
    assert found.description == "a caller"
    assert [voice.id for voice in VoiceLibrary(FakeEngine(), tmp_path).saved()] == ["anna"]


def test_a_taken_name_is_refused(library: VoiceLibrary) -> None:
    library.save("anna", clone())
    for taken in ("anna", "alto", "nova"):
        with pytest.raises(Conflict):
            library.save(taken, clone(1))


def test_delete_forgets_it_for_good(tmp_path: Path) -> None:
    library = VoiceLibrary(FakeEngine(), tmp_path)
    library.save("anna", clone())
    library.delete("anna")
    for lib in (library, VoiceLibrary(FakeEngine(), tmp_path)):
        with pytest.raises(UnknownVoice):
            lib.resolve("anna")
    with pytest.raises(NotFound):
        library.delete("anna")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_built_in_voice_cannot_be_deleted(library: VoiceLibrary) -> None:
    with pytest.raises(InputError):
        library.delete("alto")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    VoiceLibrary(FakeEngine(), tmp_path).save("anna", clone())
    (tmp_path / "fake" / "anna.voice").write_bytes(b"garbage")
    with pytest.raises(ModelFileError):
        VoiceLibrary(FakeEngine(), tmp_path).resolve("anna")


def test_memory_holds_a_bounded_number(tmp_path: Path) -> None:
    library = VoiceLibrary(FakeEngine(), tmp_path, cache_max=2)
    for number in range(5):
        library.save(f"voice{number}", clone(number))
    assert library.cached == 2
    assert library.resolve("voice0").data == clone(0).data, "read again from disk"


def test_without_a_folder_voices_last_as_long_as_the_process() -> None:
    library = VoiceLibrary(FakeEngine(), None)
    library.save("anna", clone())
    assert library.resolve("anna").kind == "cloned"
    library.delete("anna")
    with pytest.raises(UnknownVoice):
        library.resolve("anna")
