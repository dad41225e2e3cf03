"""Built-in voices, aliases, and clones as bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.engines.qwen3.config import Qwen3Config
from vivavoce.engines.qwen3.engine import Qwen3Engine
from vivavoce.engines.qwen3.options import Qwen3Options
from vivavoce.engines.qwen3.voices import (
    ALIASES,
    ClonedVoice,
    builtin_voices,
    cloned,
    known_languages,
    language_codes,
    model_language,
)
from vivavoce.engines.voices import OPENAI_VOICES, default_first, openai_aliases
from vivavoce.errors import InputError, ModelFileError, SettingsError

Checkpoints = Callable[[str], Path]


def in_context() -> ClonedVoice:
    rng = np.random.default_rng(3)
    return ClonedVoice(
        rng.standard_normal(8, np.float32),
        rng.integers(0, 900, 5),
        rng.integers(0, 2048, (7, 16)),
        {"positions": np.array([7]), "layer.keys": rng.standard_normal((1, 2, 3, 4), np.float32)},
    )


@pytest.fixture(scope="module")
def speakers(tiny_checkpoint: Checkpoints) -> Qwen3Config:
    return Qwen3Config.load(tiny_checkpoint("0.6B-CustomVoice"))


def test_custom_voice_lists_its_speakers(speakers: Qwen3Config) -> None:
    voices = builtin_voices(speakers)
    assert len(voices) == 9 and {"ryan", "serena", "uncle_fu"} <= {voice.id for voice in voices}
    assert all(len(voice.languages) == 10 for voice in voices)


@pytest.mark.parametrize(
    ("model", "only"), [("1.7B-VoiceDesign", "design"), ("0.6B-Base", "neutral")]
)
def test_models_without_speakers_have_one_voice(
    tiny_checkpoint: Checkpoints, model: str, only: str
) -> None:
    voices = builtin_voices(Qwen3Config.load(tiny_checkpoint(model)))
    assert [voice.id for voice in voices] == [only]


def test_the_neutral_voice_is_the_zero_vector(tiny_checkpoint: Checkpoints) -> None:
    config = Qwen3Config.load(tiny_checkpoint("0.6B-Base"))
    state = cloned(builtin_voices(config)[0])
    assert state is not None and not state.in_context
    np.testing.assert_array_equal(state.x_vector, np.zeros(config.talker.hidden_size))


def test_every_openai_name_stands_for_a_speaker(speakers: Qwen3Config) -> None:
    voices = builtin_voices(speakers)
    assert set(ALIASES) == set(OPENAI_VOICES)
    aliases = openai_aliases(voices, ALIASES)
    assert aliases["alloy"] == "ryan" and aliases["nova"] == "vivian"
    assert set(aliases.values()) <= {voice.id for voice in voices}


def test_a_default_voice_goes_first(speakers: Qwen3Config) -> None:
    voices = builtin_voices(speakers)
    assert default_first(voices, "sohee", ALIASES)[0].id == "sohee"
    assert default_first(voices, "alloy", ALIASES)[0].id == "ryan"
    with pytest.raises(SettingsError, match="nobody"):
        default_first(voices, "nobody", ALIASES)


@pytest.mark.parametrize("model", ["0.6B-Base", "1.7B-VoiceDesign"])
@pytest.mark.parametrize("name", OPENAI_VOICES)
def test_a_name_that_a_request_may_give_may_be_the_default(
    tiny_checkpoint: Checkpoints, model: str, name: str
) -> None:
    """Of a checkpoint without the speakers that the names stand for, too."""
    engine = Qwen3Engine(Qwen3Options(model=str(tiny_checkpoint(model)), voice=name))
    only = engine.voices()[0].id
    assert engine.info.default_voice == only == engine.info.voice_aliases[name]


@pytest.mark.parametrize(
    ("wanted", "name"),
    [(None, "auto"), ("Auto", "auto"), ("en", "english"), ("English", "english"),
     ("zh-CN", "chinese"), ("pt_BR", "portuguese")],
)  # fmt: skip
def test_languages_by_name_code_and_tag(
    speakers: Qwen3Config, wanted: str | None, name: str
) -> None:
    assert model_language(wanted, speakers.talker.codec_language_id) == name


@pytest.mark.parametrize("wanted", ["sv", "klingon", "beijing_dialect", "x"])
def test_other_languages_are_refused(speakers: Qwen3Config, wanted: str) -> None:
    with pytest.raises(InputError, match="Known languages") as caught:
        model_language(wanted, speakers.talker.codec_language_id)
    assert caught.value.param == "language"


def test_ten_languages_have_codes(speakers: Qwen3Config) -> None:
    codes = language_codes(known_languages(speakers.talker.codec_language_id))
    assert codes == ("de", "en", "es", "fr", "it", "ja", "ko", "pt", "ru", "zh")


@pytest.mark.parametrize("voice", [in_context(), ClonedVoice(np.ones(4, np.float32))])
def test_a_voice_is_the_same_after_saving(voice: ClonedVoice) -> None:
    again = ClonedVoice.from_bytes(voice.to_bytes())
    assert again.in_context is voice.in_context and again.digest() == voice.digest()
    np.testing.assert_array_equal(again.x_vector, voice.x_vector)
    assert set(again.codec_state) == set(voice.codec_state)
    for name, part in voice.codec_state.items():
        np.testing.assert_array_equal(again.codec_state[name], part)
    if voice.codes is not None:
        np.testing.assert_array_equal(again.codes, voice.codes)
        np.testing.assert_array_equal(again.text_ids, voice.text_ids)


@given(st.binary(max_size=60), st.integers(0, 2000))
def test_damaged_bytes_are_no_voice(junk: bytes, cut: int) -> None:
    whole = in_context().to_bytes()
    for data in (junk, whole[: min(cut, len(whole) - 1)]):
        with pytest.raises(ModelFileError, match="damaged"):
            ClonedVoice.from_bytes(data)


@pytest.mark.parametrize(
    "voice",
    [
        ClonedVoice(np.full(4, np.nan, np.float32)),
        ClonedVoice(np.zeros(0, np.float32)),
        ClonedVoice(np.ones(4, np.float64)),  # type: ignore[arg-type]
        ClonedVoice(np.ones((2, 2), np.float32)),
    ],
)
def test_what_holds_no_voice_is_refused(voice: ClonedVoice) -> None:
    with pytest.raises(ModelFileError, match="damaged"):
        ClonedVoice.from_bytes(voice.to_bytes())
