"""Phonemes: espeak-ng's, spliced-in pronunciations, plain letters."""

from __future__ import annotations

import dataclasses
import logging

import pytest

from vivavoce.engines.piper.model import VoiceModel
from vivavoce.engines.piper.phonemes import phoneme_ids, phonemize
from vivavoce.engines.piper.voice_files import VoiceConfig
from vivavoce.errors import ModelFileError
from vivavoce.types import Span


@pytest.fixture
def config(model: VoiceModel) -> VoiceConfig:
    return model.config


def spoken(config: VoiceConfig, *spans: Span) -> list[str]:
    return ["".join(part) for part in phonemize(spans, config)]


def test_same_phonemes_as_piper(config: VoiceConfig) -> None:
    from piper.phonemize_espeak import EspeakPhonemizer

    text = "Wait, what? I said: no!"
    expected = ["".join(part) for part in EspeakPhonemizer().phonemize("en-us", text)]
    assert spoken(config, Span(text)) == expected


def test_same_numbers_as_piper(config: VoiceConfig) -> None:
    from piper.phoneme_ids import phonemes_to_ids

    (part,) = phonemize((Span("Hello there."),), config)
    assert phoneme_ids(part, config.phoneme_ids) == phonemes_to_ids(part)


def test_a_clause_keeps_its_comma(config: VoiceConfig) -> None:
    assert spoken(config, Span("If you like,"))[0].rstrip().endswith(",")


def test_ipa_is_spliced_in_with_its_stress(config: VoiceConfig) -> None:
    spans = (Span("I say "), Span("tomato", "təˈmɑːtoʊ"), Span(" now."))
    assert spoken(config, *spans) == ["aɪ sˈeɪ təˈmɑːtoʊ nˈaʊ."]


def test_ipa_alone_and_with_punctuation_after_it(config: VoiceConfig) -> None:
    assert spoken(config, Span("x", "həlˈoʊ")) == ["həlˈoʊ"]
    assert spoken(config, Span("x", "həlˈoʊ"), Span(".")) == ["həlˈoʊ."]
    assert spoken(config, Span("x", "həlˈoʊ"), Span(", you.")) == ["həlˈoʊ, juː."]
    assert spoken(config, Span("x", "həlˈoʊ"), Span("! Go.")) == ["həlˈoʊ!", "ɡˈoʊ."]


def test_ipa_is_decomposed(config: VoiceConfig) -> None:
    (part,) = phonemize((Span("x", "ç"),), config)
    assert part == ["c", "\u0327"]


def test_brackets_are_not_obeyed_as_phonemes(config: VoiceConfig) -> None:
    (said,) = spoken(config, Span("a [[həlˈoʊ]] b"))
    assert "həlˈoʊ" not in said


@pytest.mark.parametrize("text", ["", " ", "…", "?!", ",", "\u200b", "\x00"])
def test_nothing_speakable_has_no_phonemes(config: VoiceConfig, text: str) -> None:
    assert phonemize((Span(text),), config) == []


def test_unknown_symbols_are_left_out_and_logged_once(
    config: VoiceConfig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    known = phoneme_ids(["a", "b"], config.phoneme_ids)
    assert phoneme_ids(["a", "\u2603", "b"], config.phoneme_ids) == known
    assert phoneme_ids(["\u2603"], config.phoneme_ids) == phoneme_ids([], config.phoneme_ids)
    assert [record.levelname for record in caplog.records if "\u2603" in record.message] == [
        "DEBUG"
    ]


def test_letters_of_a_text_voice(config: VoiceConfig) -> None:
    text_voice = dataclasses.replace(config, phoneme_type="text")
    assert spoken(text_voice, Span("Olé, \x00x")) == ["Ole\u0301, x"]


def test_a_language_espeak_lacks_is_a_model_error(config: VoiceConfig) -> None:
    with pytest.raises(ModelFileError, match="xx-nope"):
        phonemize((Span("Hello"),), dataclasses.replace(config, espeak_voice="xx-nope"))
