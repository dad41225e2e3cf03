from __future__ import annotations

import numpy as np
import pytest

from vivavoce.bench.heard import Failure, Listening, Measure, Playback, Recorder, ServerTimes
from vivavoce.bench.load import summarize

RATE_HZ = 1000
LISTENING = Listening(buffers_ms=(0.0, 100.0))


def pcm(samples: int, level: int = 8000) -> bytes:
    return np.full(samples, level, "<i2").tobytes()


def recorder(due_s: float = 10.0, sent_s: float = 10.0) -> Recorder:
    made = Recorder("twelve chars", due_s, LISTENING)
    made.sent(sent_s)
    made.format(RATE_HZ)
    return made


def stalling(due_s: float = 10.0) -> Measure:
    rec = recorder(due_s=due_s)
    rec.pcm(10.05, pcm(100))
    rec.pcm(10.20, pcm(100))
    return rec.finish(10.21)


def test_a_good_request() -> None:
    measure = stalling()
    assert measure.ok
    assert (measure.characters, measure.chunks, measure.sample_rate_hz) == (12, 2, RATE_HZ)
    assert measure.audio_s == pytest.approx(0.2)
    assert measure.first_byte_ms == measure.first_playable_ms == pytest.approx(50)
    assert measure.audible_ms == pytest.approx(50)
    assert measure.total_ms == pytest.approx(210)
    assert measure.gaps_ms == pytest.approx((150,))
    assert measure.rtf == pytest.approx(1.0)
    strict, buffered = measure.playback
    assert (strict.underruns, strict.stalled_ms) == (1, pytest.approx(50))
    assert buffered == Playback(100.0, 0, 0.0)


def test_latency_counts_from_when_it_was_due() -> None:
    rec = recorder(due_s=9.0)
    rec.pcm(10.05, pcm(100))
    measure = rec.finish(10.1)
    assert measure.lag_ms == pytest.approx(1000)
    assert measure.audible_ms == pytest.approx(1050)
    assert measure.work_s == pytest.approx(0.05)


def test_a_header_is_a_byte_but_not_playable() -> None:
    rec = recorder()
    rec.first_byte(10.01)
    rec.pcm(10.03, pcm(10))
    measure = rec.finish(10.04)
    assert measure.first_byte_ms == pytest.approx(10)
    assert measure.first_playable_ms == pytest.approx(30)


def test_a_sample_cut_in_two_is_put_together() -> None:
    data = pcm(3, level=-2)
    rec = recorder()
    for index in range(len(data)):
        rec.pcm(10.0 + index / 1000, data[index : index + 1])
    measure = rec.finish(10.1)
    assert measure.ok
    assert measure.audio_s == pytest.approx(0.003)
    assert measure.first_playable_ms == pytest.approx(1)


def test_an_end_inside_a_sample_is_a_failure() -> None:
    rec = recorder()
    rec.pcm(10.0, pcm(3) + b"\0")
    assert rec.finish(10.1).failure == Failure(
        "truncated", message="The sound ends inside a sample."
    )


def test_no_sound_is_a_failure() -> None:
    failure = recorder().finish(10.1).failure
    assert failure is not None and failure.code == "no_audio"


def test_silence_is_never_audible() -> None:
    rec = recorder()
    rec.pcm(10.0, pcm(50, level=3))
    assert rec.finish(10.1).audible_ms is None


def failed(failure: Failure) -> Measure:
    return recorder().finish(10.004, failure)


def test_a_run_in_figures() -> None:
    busy = failed(Failure("busy", 429, 1500.0))
    bare = failed(Failure("busy", 429))
    broken = failed(Failure("truncated"))
    summary = summarize([stalling(), busy, bare, broken, stalling(9.9)], wall_s=2.0)
    assert (summary.requests, summary.ok) == (5, 2)
    assert summary.errors == {"busy": 2, "truncated": 1}
    assert (summary.rejections.count, summary.rejections.with_retry_after) == (2, 1)
    assert summary.rejections.retry_after_ms is not None
    assert summary.rejections.retry_after_ms.p50 == 1500.0
    assert summary.rejections.answered_ms is not None
    assert summary.rejections.answered_ms.max == pytest.approx(4)
    assert summary.audio_s_per_s == pytest.approx(0.2)
    assert summary.first_byte_ms is not None and summary.first_byte_ms.count == 2
    assert summary.first_byte_ms.max == pytest.approx(150)
    strict, buffered = summary.playback
    assert (strict.streams_with_underrun, strict.underruns) == (2, 2)
    assert strict.stalled_ms == pytest.approx(100)
    assert buffered.underruns == 0
    assert not summary.clean


def test_clean_means_all_good_and_no_stall_with_the_first_buffer() -> None:
    rec = recorder()
    rec.pcm(10.0, pcm(10))
    good = rec.finish(10.1)
    assert summarize([good], 1.0).clean
    assert not summarize([good, stalling()], 1.0).clean
    assert not summarize([good, failed(Failure("busy", 429))], 1.0).clean
    assert not summarize([], 1.0).clean


def test_the_parts_of_the_time_to_the_first_byte() -> None:
    rec = recorder(due_s=9.5, sent_s=10.0)
    rec.told(ServerTimes(queue_ms=10.0, first_ms=40.0))
    rec.pcm(10.05, pcm(100))
    parts = rec.finish(10.2).breakdown
    assert parts is not None
    assert (parts.queue_ms, parts.inference_ms, parts.playback_ms) == (10.0, 30.0, 0.0)
    assert parts.network_ms == pytest.approx(10.0)


def test_a_summary_holds_the_parts_of_good_requests_alone() -> None:
    rec = recorder()
    rec.told(ServerTimes(queue_ms=10.0, first_ms=40.0))
    rec.pcm(10.05, pcm(100))
    failed = recorder()
    failed.told(ServerTimes(queue_ms=999.0, first_ms=999.0))
    failed.first_byte(11.0)
    summary = summarize([rec.finish(10.1), failed.finish(11.0), stalling()], 1.0)
    assert summary.queue_ms is not None and summary.network_ms is not None
    assert (summary.queue_ms.count, summary.queue_ms.max) == (1, 10.0)
    assert summary.network_ms.p50 == pytest.approx(10.0)
