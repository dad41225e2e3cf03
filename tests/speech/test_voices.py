"""The voice library: names resolve, clones survive a restart, nothing is half written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vivavoce.errors import (
    Conflict,
    InputError,
    ModelFileError,
    NotFound,
    TooManyVoices,
    UnknownVoice,
)
from vivavoce.speech.voices import OPENAI_VOICES, VoiceLibrary
from vivavoce.testing.fake_engine import FakeEngine
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


@pytest.mark.parametrize("name", ["Anna Müller", "さくら", "Zoë", "con", "𐌰" * 64])
def test_names_may_hold_spaces_and_any_letters(tmp_path: Path, name: str) -> None:
    VoiceLibrary(FakeEngine(), tmp_path).save(name, clone())
    library = VoiceLibrary(FakeEngine(), tmp_path)
    assert library.resolve(name).data == clone().data
    assert [voice.id for voice in library.saved()] == [name]
    library.delete(name)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_name_can_be_typed_in_either_spelling(library: VoiceLibrary) -> None:
    library.save("Zoe\u0308", clone())
    assert library.resolve("Zo\u00eb").id == library.resolve("Zoe\u0308").id == "Zo\u00eb"
    library.delete("Zoe\u0308")


@pytest.mark.parametrize("taken", ["Anna", "ALTO", "Nova"])
def test_a_name_that_differs_by_its_case_alone_is_taken(library: VoiceLibrary, taken: str) -> None:
    library.save("anna", clone())
    with pytest.raises(Conflict):
        library.save(taken, clone(1))


def test_a_case_that_nobody_saved_is_unknown(library: VoiceLibrary) -> None:
    library.save("anna", clone())
    with pytest.raises(UnknownVoice):
        library.resolve("Anna")


def test_a_consent_is_kept(tmp_path: Path) -> None:
    VoiceLibrary(FakeEngine(), tmp_path).save("anna", clone(), consent="cons_1")
    library = VoiceLibrary(FakeEngine(), tmp_path)
    assert library.resolve("anna").consent == library.saved()[0].consent == "cons_1"
    assert json.loads((tmp_path / "fake" / "anna.json").read_text())["consent"] == "cons_1"


@pytest.mark.parametrize("field", ["description", "consent"])
@pytest.mark.parametrize("text", ["x" * 501, "a\x1b[31mb", "a\u202eb", "a\0b", "\ud800"])
def test_what_is_told_of_a_voice_is_bounded_and_plain(
    library: VoiceLibrary, field: str, text: str
) -> None:
    with pytest.raises(InputError) as caught:
        library.save("anna", clone(), **{field: text})
    assert caught.value.param == field
    library.save("anna", clone(), **{field: "x" * 498 + "\n\t"})


def test_no_more_are_saved_than_may_be(tmp_path: Path) -> None:
    library = VoiceLibrary(FakeEngine(), tmp_path, max_saved=2)
    library.save("anna", clone())
    library.save("bert", clone())
    with pytest.raises(TooManyVoices, match="2 voices are saved, and 2 may be") as caught:
        library.save("carl", clone())
    assert caught.value.status == 409
    library.delete("anna")
    library.save("carl", clone())


def test_those_that_were_checked_at_once_are_not_all_kept() -> None:
    library = VoiceLibrary(FakeEngine(), None, max_saved=1)
    names = [library.check_new(name) for name in ("anna", "bert")]
    library.write(names[0], clone())
    with pytest.raises(TooManyVoices):
        library.write(names[1], clone())


def test_what_names_mean_is_told_without_reading_a_voice(tmp_path: Path) -> None:
    library = VoiceLibrary(FakeEngine(), tmp_path)
    for name in ("anna", "Zo\u00eb"):
        library.save(name, clone())
    library = VoiceLibrary(FakeEngine(), tmp_path)
    (tmp_path / "fake" / "anna.voice").write_bytes(b"garbage")
    names = ("anna", "Zoe\u0308", "bass", "alloy", "nobody", "", "../x")
    assert library.ids_of(names) == {"anna", "Zo\u00eb", "bass", "alto"}
    assert library.cached == 0


def test_those_that_are_more_than_may_be_go_on_speaking(tmp_path: Path) -> None:
    for name in ("anna", "bert", "carl"):
        VoiceLibrary(FakeEngine(), tmp_path).save(name, clone())
    library = VoiceLibrary(FakeEngine(), tmp_path, max_saved=1)
    assert [voice.id for voice in library.saved()] == ["anna", "bert", "carl"]
    assert library.resolve("carl").kind == "cloned"


def test_an_error_names_a_few_voices_and_how_many_more_there_are(library: VoiceLibrary) -> None:
    for number in range(30):
        library.save(f"voice{number:02}", clone())
    with pytest.raises(UnknownVoice) as caught:
        library.resolve("bob")
    assert "alto" in caught.value.message
    assert "voice16" in caught.value.message
    assert "voice17" not in caught.value.message
    assert caught.value.message.endswith(f"and {30 - 17 + 13} more.")


def test_an_error_does_not_repeat_a_name_without_end(library: VoiceLibrary) -> None:
    with pytest.raises(UnknownVoice) as caught:
        library.resolve("bob" * 100_000)
    assert len(caught.value.message) < 1_000


# Folders of before, and damaged ones.


def test_a_folder_of_before_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "fake"
    folder.mkdir()
    about = {"languages": ["en"], "description": "x" * 5_000, "created_at_s": 7}
    (folder / "anna.json").write_text(json.dumps(about))
    (folder / "anna.voice").write_text('{"pitch_hz": 200.0}')
    library = VoiceLibrary(FakeEngine(), tmp_path)
    (voice,) = library.saved()
    assert (voice.languages, voice.created_at_s, voice.consent) == (("en",), 7, "")
    assert len(voice.description) == 500
    assert voice.description.endswith("…")
    assert library.resolve("anna").data == 200.0


@pytest.mark.parametrize(
    "about",
    [
        '{"languages": [], "description": "", "created_at_s": NaN}',
        '{"languages": [], "description": "", "created_at_s": 1e400}',
        '{"languages": [], "description": "", "created_at_s": -1}',
        '{"languages": [], "description": "", "created_at_s": "7"}',
        '{"languages": [], "description": "", "created_at_s": true}',
        '{"languages": [1], "description": "", "created_at_s": 7}',
        '{"languages": "en", "description": "", "created_at_s": 7}',
        '{"languages": [], "description": 5, "created_at_s": 7}',
        '{"languages": [], "description": "", "created_at_s": 7, "consent": []}',
        '{"languages": [], "created_at_s": 7}',
        "{}",
        "",
    ],
)
def test_a_damaged_description_is_listed_by_nobody_and_can_be_removed(
    tmp_path: Path, about: str
) -> None:
    library = VoiceLibrary(FakeEngine(), tmp_path)
    library.save("bert", clone())
    (tmp_path / "fake" / "anna.json").write_text(about)
    (tmp_path / "fake" / "anna.voice").write_text('{"pitch_hz": 200.0}')
    assert [voice.id for voice in library.saved()] == ["bert"]
    with pytest.raises(UnknownVoice):
        library.resolve("anna")
    with pytest.raises(Conflict, match="damaged"):
        library.save("anna", clone())
    library.delete("anna")
    library.save("anna", clone())
    assert library.resolve("anna").data == clone().data


def test_a_damaged_state_is_read_and_named_once_and_no_longer_listed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeEngine()
    library = VoiceLibrary(engine, tmp_path)
    library.save("anna", clone())
    library.clear_cache()
    (tmp_path / "fake" / "anna.voice").write_bytes(b"garbage")
    reads: list[bytes] = []
    real = engine.voice_from_bytes
    monkeypatch.setattr(engine, "voice_from_bytes", lambda data: reads.append(data) or real(data))
    for _ in range(3):
        with pytest.raises(ModelFileError) as caught:
            library.resolve("anna")
        assert str(tmp_path) not in caught.value.message
    assert len(reads) == 1
    assert library.saved() == ()
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1
    (tmp_path / "fake" / "anna.voice").write_bytes(b'{"pitch_hz": 200.0}')
    assert library.resolve("anna").data == 200.0
    assert [voice.id for voice in library.saved()] == ["anna"]


# Two libraries on one folder, as of two servers.


@pytest.fixture
def two(tmp_path: Path) -> tuple[VoiceLibrary, VoiceLibrary]:
    return VoiceLibrary(FakeEngine(), tmp_path), VoiceLibrary(FakeEngine(), tmp_path)


def test_a_voice_deleted_on_one_server_no_longer_speaks_on_the_other(
    two: tuple[VoiceLibrary, VoiceLibrary],
) -> None:
    one, other = two
    one.save("anna", clone())
    assert other.resolve("anna").kind == "cloned"
    one.delete("anna")
    with pytest.raises(UnknownVoice):
        other.resolve("anna")
    assert other.saved() == ()


def test_a_voice_saved_anew_on_one_server_speaks_anew_on_the_other(
    two: tuple[VoiceLibrary, VoiceLibrary],
) -> None:
    one, other = two
    one.save("anna", clone(1))
    before = other.resolve("anna")
    one.delete("anna")
    one.save("anna", clone(2))
    after = other.resolve("anna")
    assert (before.data, after.data) == (clone(1).data, clone(2).data)
    assert before.version != after.version, "nor does remembered speech"


def test_a_name_is_taken_on_both_servers_at_once(two: tuple[VoiceLibrary, VoiceLibrary]) -> None:
    one, other = two
    assert other.saved() == ()
    one.save("anna", clone(1))
    with pytest.raises(Conflict):
        other.save("anna", clone(2))
    assert other.resolve("anna").data == clone(1).data


def test_remembered_recordings_and_names_are_told_apart(library: VoiceLibrary) -> None:
    """Whoever names a voice like the digest of somebody's recording does not get that voice."""
    key = "0" * 64
    library.save(key, clone(1))
    assert library.remembered(key) is None
    library.remember(key, clone(2))
    assert library.resolve(key).data == clone(1).data
