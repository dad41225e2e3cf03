"""The Python API, as the README shows it."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

import vivavoce
from vivavoce.errors import EmptyInput, InputError, SettingsError
from vivavoce.speech.synthesizer import SpeechParameters
from vivavoce.testing.fake_engine import FakeEngine
from vivavoce.types import Sampling, SpeechRequest


@pytest.fixture(scope="module")
def synthesizer() -> Iterator[vivavoce.Synthesizer]:
    with vivavoce.load("fake") as loaded:
        yield loaded


def test_synthesize_gives_the_whole_sound(synthesizer: vivavoce.Synthesizer) -> None:
    speech = synthesizer.synthesize("Hello there.")
    assert speech.samples.dtype == np.float32
    assert speech.sample_rate_hz == synthesizer.sample_rate_hz == 24_000
    assert speech.duration_s == pytest.approx(12 * 0.06, abs=0.1)
    assert speech.timings.rtf is not None


def test_stream_gives_the_same_sound_in_pieces(synthesizer: vivavoce.Synthesizer) -> None:
    whole = synthesizer.synthesize("Hello there, and good day.").samples
    chunks = list(synthesizer.stream("Hello there, and good day."))
    assert len(chunks) > 3
    assert chunks[-1].last
    np.testing.assert_array_equal(np.concatenate([chunk.samples for chunk in chunks]), whole)


def test_tokens_are_counted_and_the_first_one_comes_before_the_sound() -> None:
    with vivavoce.load("fake", step_ms=1.0) as synthesizer:
        timings = synthesizer.synthesize("Hello there, and good day. And more.").timings
        engine = synthesizer.service.engine
    assert isinstance(engine, FakeEngine)
    assert engine.steps >= timings.tokens > 3
    assert timings.first_token_ms is not None and timings.first_audio_ms is not None
    assert 1.0 <= timings.first_token_ms <= timings.first_audio_ms


def test_closing_a_stream_cancels(synthesizer: vivavoce.Synthesizer) -> None:
    with synthesizer.stream("word " * 400) as chunks:
        next(chunks)
    assert list(chunks) == []
    engine = synthesizer.service.engine
    assert isinstance(engine, FakeEngine)
    assert synthesizer.service.admission.running == 0


def test_async_stream_works_in_any_event_loop(synthesizer: vivavoce.Synthesizer) -> None:
    async def listen() -> int:
        return sum([len(chunk.samples) async for chunk in synthesizer.astream("Hello there.")])

    assert asyncio.run(listen()) == len(synthesizer.synthesize("Hello there.").samples)


def test_async_stream_can_be_left_early(synthesizer: vivavoce.Synthesizer) -> None:
    async def listen() -> None:
        chunks = synthesizer.astream("word " * 400)
        await anext(chunks)
        await chunks.aclose()

    asyncio.run(listen())
    assert synthesizer.service.admission.running == 0


def test_several_threads_share_it(synthesizer: vivavoce.Synthesizer) -> None:
    lengths: list[int] = []

    def speak() -> None:
        lengths.append(len(synthesizer.synthesize("Hello there.").samples))

    threads = [threading.Thread(target=speak) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lengths) == 8
    assert len(set(lengths)) == 1


def test_keywords_reach_the_engine(synthesizer: vivavoce.Synthesizer) -> None:
    usual = synthesizer.synthesize("Hello there.")
    fast = synthesizer.synthesize("Hello there.", speed=2.0, voice="bass", seed=4)
    assert fast.duration_s == pytest.approx(usual.duration_s / 2, abs=0.1)


def test_an_unknown_keyword_is_named(synthesizer: vivavoce.Synthesizer) -> None:
    with pytest.raises(InputError, match="sped"):
        synthesizer.synthesize("Hello.", sped=2.0)


def test_nothing_to_say_is_an_error(synthesizer: vivavoce.Synthesizer) -> None:
    with pytest.raises(EmptyInput):
        synthesizer.synthesize("...")


@pytest.mark.parametrize("ending", ["wav", "mp3", "flac", "opus", "aac"])
def test_save_writes_a_file_that_others_read(
    synthesizer: vivavoce.Synthesizer, tmp_path: Path, ending: str
) -> None:
    speech = synthesizer.synthesize("Hello there, this is a test.")
    path = speech.save(tmp_path / f"hello.{ending}")
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    seconds = sum(frame.samples for frame in frames) / frames[0].sample_rate
    assert seconds == pytest.approx(speech.duration_s, abs=0.1)


def test_save_refuses_an_unknown_format(synthesizer: vivavoce.Synthesizer, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        synthesizer.synthesize("Hello.").save(tmp_path / "hello.xyz")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_engine_lists_the_known() -> None:
    with pytest.raises(SettingsError, match=r"Known engines: .*fake"):
        vivavoce.load("no-such-engine")


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(SettingsError, match="'no_such_option'"):
        vivavoce.load("fake", no_such_option=1)


def test_a_missing_extra_is_named() -> None:
    # In an interpreter of its own: modules imported twice would confuse the tests beside this one.
    script = """
import sys
sys.modules["onnxruntime"] = None
import vivavoce
from vivavoce.errors import MissingExtra
try:
    vivavoce.load("piper")
except MissingExtra as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "vivavoce[piper]" in done.stdout


@pytest.fixture
def no_new_thread() -> Iterator[None]:
    """Nothing that was begun meanwhile is left; threads of earlier tests may end at any time."""
    before = set(threading.enumerate())
    yield
    gc.collect()
    until_s = time.monotonic() + 30
    while (left := set(threading.enumerate()) - before) and time.monotonic() < until_s:
        time.sleep(0.01)
    assert left == set()


@pytest.mark.usefixtures("no_new_thread")
def test_no_thread_outlives_close() -> None:
    loaded = vivavoce.load("fake")
    loaded.synthesize("Hello.")
    loaded.close()
    loaded.close()


@pytest.mark.usefixtures("no_new_thread")
def test_a_failed_start_leaves_no_thread() -> None:
    with pytest.raises(SettingsError):
        vivavoce.load("fake", journal=3.5j)


def test_every_field_of_a_request_is_a_parameter() -> None:
    fields = {
        field.name for kind in (SpeechRequest, Sampling) for field in dataclasses.fields(kind)
    }
    named = fields - {"text", "sampling", "reference"} | {"clone_from"}
    assert set(SpeechParameters.__annotations__) == named


def test_a_request_that_is_made_already_is_spoken(synthesizer: vivavoce.Synthesizer) -> None:
    with synthesizer.open(SpeechRequest("Hello there.", voice="bass")) as chunks:
        samples = np.concatenate([chunk.samples for chunk in chunks])
    whole = synthesizer.synthesize("Hello there.", voice="bass").samples
    np.testing.assert_array_equal(samples, whole)
