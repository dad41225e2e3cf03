"""The audio cache: bounded, least recently used first, keyed by all that alters the sound."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from vivavoce.speech.cache import AudioCache, cache_key
from vivavoce.types import Priority, Sampling, SpeechRequest, Voice

VOICE = Voice(id="alto", engine="fake")
REQUEST = SpeechRequest("hello")


def pcm(length: int, value: int = 1) -> np.ndarray:
    return np.full(length, value, np.int16)


def key(request: SpeechRequest = REQUEST, voice: Voice = VOICE, language: str | None = None) -> Any:
    return cache_key(request, voice, language, frozenset(request.lexicon.items()))


@pytest.mark.parametrize(
    "change",
    [
        {"text": "other"},
        {"speed": 1.1},
        {"instructions": "whisper"},
        {"sampling": Sampling(temperature=0.5)},
        {"sampling": Sampling(top_p=0.5)},
        {"sampling": Sampling(seed=1)},
        {"normalize": False},
        {"ssml": True},
        {"lexicon": {"a": "b"}},
        {"options": {"noise_scale": 0.0}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_everything_that_alters_the_sound_is_in_the_key(change: dict[str, Any]) -> None:
    assert key(replace(REQUEST, **change)) != key()


def test_voice_and_language_are_in_the_key() -> None:
    assert key(voice=replace(VOICE, id="bass")) != key()
    assert key(voice=replace(VOICE, created_at_s=5)) != key(), "a voice saved anew under its name"
    assert key(language="de") != key(language="en")


def test_a_new_request_field_must_be_considered() -> None:
    considered = {
        "text", "voice", "language", "speed", "instructions", "sampling", "normalize", "ssml",
        "lexicon", "options",
    }  # fmt: skip
    not_sound = {"stream_mode", "priority", "reference"}
    assert {field.name for field in fields(SpeechRequest)} == considered | not_sound


def test_what_does_not_alter_the_sound_is_not_in_the_key() -> None:
    assert key(replace(REQUEST, stream_mode="sentence", priority=Priority.BATCH)) == key()


def test_the_least_recently_used_goes_first() -> None:
    cache = AudioCache(max_entries=2, max_bytes=10_000)
    cache.put("a", pcm(10))
    cache.put("b", pcm(10))
    assert cache.get("a") is not None
    cache.put("c", pcm(10))
    assert cache.get("b") is None
    assert cache.get("a") is not None
    assert cache.get("c") is not None


def test_bytes_are_bounded() -> None:
    cache = AudioCache(max_entries=100, max_bytes=1_000)
    for number in range(50):
        cache.put(number, pcm(50))
    assert cache.stats.size_bytes <= 1_000
    cache.put("huge", pcm(400))
    assert cache.get("huge") is None, "one entry may not push out all the others"


def test_replacing_an_entry_counts_its_bytes_once() -> None:
    cache = AudioCache(max_entries=4, max_bytes=10_000)
    cache.put("a", pcm(100))
    cache.put("a", pcm(50))
    assert cache.stats.size_bytes == 100
    assert cache.clear() == 1
    assert cache.stats.size_bytes == 0


def test_zero_entries_switch_it_off() -> None:
    cache = AudioCache(max_entries=0, max_bytes=10_000)
    cache.put("a", pcm(10))
    assert cache.get("a") is None


def test_what_comes_back_is_what_was_kept() -> None:
    cache = AudioCache(max_entries=1, max_bytes=10_000)
    cache.put("a", np.array([-32768, 0, 16384], np.int16))
    np.testing.assert_array_equal(cache.get("a"), np.array([-1.0, 0.0, 0.5], np.float32))
