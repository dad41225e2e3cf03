"""Which model a file is told to be."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vivavoce.engines.neutts.family import EMOTIONS, SPECIAL_TOKENS, emotion_token, find_family
from vivavoce.errors import ModelFileError


def knows(*more: str) -> Callable[[str], bool]:
    return lambda token: token in (*SPECIAL_TOKENS, *more)


@pytest.mark.parametrize(
    ("architecture", "name", "layout"),
    [("qwen2", "air", "phonemes"), ("llama", "nano", "phonemes"), ("qwen3", "2e", "text")],
)
def test_architecture_tells_the_family(architecture: str, name: str, layout: str) -> None:
    family = find_family(architecture, knows())
    assert (family.name, family.layout, family.context_tokens) == (name, layout, 2048)


def test_prompts_are_those_of_the_published_models() -> None:
    nano, expressive = find_family("llama", knows()), find_family("qwen3", knows())
    assert nano.header == "user: Convert the text to speech:<|TEXT_PROMPT_START|>"
    assert nano.middle == "<|TEXT_PROMPT_END|>\nassistant:<|SPEECH_GENERATION_START|>"
    assert expressive.header == "<|TEXT_PROMPT_START|>"
    assert expressive.middle == "<|TEXT_PROMPT_END|><|SPEECH_GENERATION_START|>"


def test_what_a_file_says_of_itself_comes_first() -> None:
    tuned = find_family("qwen2", knows(), input_format="BPE")
    assert (tuned.name, tuned.layout, tuned.header) == ("air", "text", "<|TEXT_PROMPT_START|>")
    assert find_family("qwen3", knows(), input_format="phonemes").layout == "phonemes"


def test_only_emotions_with_a_token_are_kept() -> None:
    assert find_family("qwen3", knows()).emotions == ()
    happy = emotion_token("happy")
    assert happy == "<|HAPPY|>"
    assert find_family("qwen3", knows(happy)).emotions == ("happy",)
    assert find_family("qwen3", knows(happy), emotions=["sad", "happy"]).emotions == ("happy",)
    everything = find_family("qwen3", lambda token: True)
    assert set(everything.emotions) == set(EMOTIONS)
    assert "emily" in everything.speakers


@pytest.mark.parametrize("architecture", ["gemma3", "", "Qwen2"])
def test_another_architecture_is_refused(architecture: str) -> None:
    with pytest.raises(ModelFileError, match="llama, qwen2, qwen3"):
        find_family(architecture, knows())


@pytest.mark.parametrize("missing", SPECIAL_TOKENS)
def test_a_vocabulary_without_speech_is_refused_by_name(missing: str) -> None:
    with pytest.raises(ModelFileError) as caught:
        find_family("llama", lambda token: token != missing)
    assert missing in caught.value.message


def test_an_unknown_input_format_is_refused() -> None:
    with pytest.raises(ModelFileError, match="syllables"):
        find_family("llama", knows(), input_format="syllables")
