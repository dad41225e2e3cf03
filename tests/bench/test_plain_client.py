from __future__ import annotations

from typing import Any

import pytest

from vivavoce.bench.clients.plain import PlainSpeaker


@pytest.mark.parametrize("response_format", ["pcm", "wav"])
def test_a_stream_is_measured_whole(stand_in: Any, response_format: str) -> None:
    speaker = PlainSpeaker(stand_in.url, more={"response_format": response_format})
    measure = speaker.speak("hello MISNAMED")
    assert measure.ok
    assert measure.sample_rate_hz == stand_in.rate_hz
    assert measure.audio_s == pytest.approx(stand_in.audio_s)
    assert measure.first_playable_ms is not None
    assert stand_in.bodies == [{"input": "hello MISNAMED", "response_format": response_format}]


@pytest.mark.parametrize(("text", "code"), [("BREAK", "truncated"), ("REJECT", "busy")])
def test_failures_are_seen(stand_in: Any, text: str, code: str) -> None:
    failure = PlainSpeaker(stand_in.url).speak(text).failure
    assert failure is not None and failure.code == code


def test_it_hangs_up_after_the_first_sound(stand_in: Any) -> None:
    measure = PlainSpeaker(stand_in.url).speak("STALL", hang_up_after_s=0.0)
    assert measure.failure is not None and measure.failure.code == "hung_up"
    assert 0 < measure.audio_s < stand_in.audio_s
