"""What an engine is asked for: the room that a clause has depends on how it is to be spoken."""

from __future__ import annotations

import time

import pytest

from vivavoce.speech.request import prepare, utterance_of
from vivavoce.testing.fake_engine import FakeEngine, FakeOptions
from vivavoce.text.duration import max_duration_s
from vivavoce.types import Clause, Span, SpeechRequest

TEXT = "This is said as slowly as anybody likes."
CLAUSE = Clause((Span(TEXT),))


def longest_s(instructions: str | None, speed: float = 1.0, *, expressive: bool = True) -> float:
    engine = FakeEngine(FakeOptions(expressive=expressive))
    request = SpeechRequest(TEXT, instructions=instructions, speed=speed)
    voice = engine.voices()[0]
    ready = prepare(
        request, engine, lambda _: voice, max_input_chars=100, arrived_s=time.monotonic()
    )
    limit_s = utterance_of(ready, voice, CLAUSE, 0.0, engine).max_audio_s
    assert limit_s is not None
    return limit_s


def test_without_a_style_it_is_what_the_text_means() -> None:
    assert longest_s(None) == max_duration_s(TEXT)


@pytest.mark.parametrize(
    ("instructions", "least"), [("Speak very slowly.", 3.0), ("Whisper.", 1.5)]
)
def test_a_style_loosens_it(instructions: str, least: float) -> None:
    assert longest_s(instructions) == pytest.approx(least * max_duration_s(TEXT))


def test_a_slow_speed_does_too_where_the_engine_has_it() -> None:
    assert longest_s(None, 0.25) == pytest.approx(4 * longest_s(None))


def test_what_the_engine_does_not_hear_changes_nothing() -> None:
    assert longest_s("Speak very slowly.", expressive=False) == max_duration_s(TEXT)
