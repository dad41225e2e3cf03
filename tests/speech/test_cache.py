"""The audio cache: bounded, least recently used first, keyed by all that alters the sound."""

from __future__ import annotations

import hashlib
import tracemalloc
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from vivavoce.speech.cache import (
    ENTRY_BYTES,
    LARGEST_SHARE,
    AudioCache,
    CacheStats,
    cache_key,
)
from vivavoce.text.lexicon import entries_digest
from vivavoce.types import Priority, Sampling, SpeechRequest, Voice

VOICE = Voice(id="alto", engine="fake")
REQUEST = SpeechRequest("hello")


def pcm(length: int, value: int = 1) -> np.ndarray:
    return np.full(length, value, np.int16)


def key(request: SpeechRequest = REQUEST, voice: Voice = VOICE, language: str | None = None) -> Any:
    return cache_key(request, voice, language, entries_digest(request.lexicon))


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


def test_bytes_are_bounded_keys_and_overhead_included() -> None:
    cache = AudioCache(max_entries=100, max_bytes=10_000)
    for number in range(50):
        cache.put(bytes([number]), pcm(500))
        assert cache.stats.size_bytes <= 10_000
    assert cache.stats.entries == 10_000 // (1_000 + ENTRY_BYTES)
    assert cache.get(bytes([49])) is not None
    assert cache.get(bytes([0])) is None


def test_it_may_be_filled_to_the_last_byte() -> None:
    room = 8 * (1_000 + ENTRY_BYTES)
    for less, kept in ((0, 8), (1, 7)):
        cache = AudioCache(max_entries=100, max_bytes=room - less)
        for number in range(8):
            cache.put(bytes([number]), pcm(500))
        assert cache.stats.entries == kept


def test_many_short_entries_fill_it_as_few_long_ones_do() -> None:
    """What an entry takes besides its sound is no less than it is counted as."""
    cache = AudioCache(max_entries=1_000_000, max_bytes=1_000_000)
    tracemalloc.start()
    try:
        for number in range(10_000):
            cache.put(hashlib.sha256(str(number).encode()).digest(), pcm(1))
        taken_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert cache.stats.size_bytes <= 1_000_000
    assert taken_bytes <= 1_000_000


def test_one_entry_may_not_push_out_all_the_others() -> None:
    cache = AudioCache(max_entries=9, max_bytes=40_000)
    largest = 40_000 // LARGEST_SHARE - ENTRY_BYTES
    assert cache.max_sound_bytes == largest
    cache.put(b"fits", pcm(largest // 2))
    cache.put(b"huge", pcm(largest // 2 + 1))
    assert cache.get(b"fits") is not None
    assert cache.get(b"huge") is None
    assert AudioCache(0, 40_000).max_sound_bytes == 0
    assert AudioCache(9, 100).max_sound_bytes == 0


def test_replacing_an_entry_counts_its_bytes_once() -> None:
    cache = AudioCache(max_entries=4, max_bytes=10_000)
    cache.put("a", pcm(100))
    cache.put("a", pcm(50))
    assert cache.stats == CacheStats(1, 100 + ENTRY_BYTES, 0)
    assert cache.clear() == 1
    assert cache.stats.entries == 0
    assert cache.stats.size_bytes == 0


def test_zero_entries_switch_it_off() -> None:
    cache = AudioCache(max_entries=0, max_bytes=10_000)
    cache.put("a", pcm(10))
    assert cache.get("a") is None


def test_what_comes_back_is_what_was_kept() -> None:
    cache = AudioCache(max_entries=1, max_bytes=10_000)
    cache.put("a", np.array([-32768, 0, 16384], np.int16))
    assert cache.stats.hits == 0
    kept = cache.get("a")
    assert kept is not None
    np.testing.assert_array_equal(kept, np.array([-32768, 0, 16384], np.int16))
    assert kept.dtype == np.int16
    assert cache.get("b") is None
    assert cache.stats.hits == 1
    with pytest.raises(ValueError, match="read-only"):
        kept[0] = 1  # it is shared by all who hear it


def test_a_key_has_the_same_size_whatever_it_stands_for() -> None:
    words = {f"word {number}": "spoken " * 70 for number in range(1_000)}
    large = replace(REQUEST, text="long " * 4_000, lexicon=words, options={"noise_scale": 0.5})
    assert len(key(large)) == len(key()) == 32
    assert key(large) != key(replace(large, lexicon=words | {"word 7": "spoken otherwise"}))
    assert key(large) == key(replace(large, lexicon=dict(reversed(words.items()))))


def test_neighboring_fields_are_not_confused() -> None:
    keys = {
        key(replace(REQUEST, lexicon={"a": "bc"})),
        key(replace(REQUEST, lexicon={"ab": "c"})),
        key(replace(REQUEST, lexicon={"a": "b", "c": "d"})),
        key(replace(REQUEST, text="hello', None")),
        key(replace(REQUEST, instructions="en"), language=None),
        key(REQUEST, language="en"),
        key(replace(REQUEST, options={"a": 1})),
        key(replace(REQUEST, options={"a": "1"})),
        key(replace(REQUEST, options={"a": [1]})),
    }
    assert len(keys) == 9
