"""The silence a model begins with is left out, whatever the chunks, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.engines.qwen3.batch import Batch
from vivavoce.engines.qwen3.engine import Qwen3Engine
from vivavoce.engines.qwen3.frame_runner import Codes
from vivavoce.engines.qwen3.graphs import Capturing
from vivavoce.engines.qwen3.options import Qwen3Options, RequestOptions
from vivavoce.engines.qwen3.row_speech import AUDIBLE_PEAK, FRAME_SAMPLES, Onset, RowSpeech
from vivavoce.engines.utterance import SilenceGuard
from vivavoce.testing.recorded_graphs import RecordingGraphs
from vivavoce.types import Samples, Sampling, Span, Utterance, Voice

Checkpoints = Callable[[str], Path]
TEXT = "A sentence that goes on for longer than a few frames."


def sound(peaks: Sequence[float], seed: int = 0) -> Samples:
    """One frame for each peak, which one sample of it reaches."""
    rng = np.random.default_rng(seed)
    frames = np.zeros((len(peaks), FRAME_SAMPLES), np.float32)
    for frame, peak in zip(frames, peaks, strict=True):
        frame[rng.integers(FRAME_SAMPLES)] = rng.choice((-1, 1)) * peak
    return frames.reshape(-1)


PEAKS = st.sampled_from((0.0, 0.0001, 0.00099, AUDIBLE_PEAK, 0.5))


@given(st.lists(PEAKS, min_size=1, max_size=12), st.lists(st.integers(1, 5), max_size=12))
def test_the_same_frames_go_in_any_chunks(peaks: list[float], sizes: list[int]) -> None:
    whole, onset = sound(peaks), Onset()
    kept, rest = [np.zeros(0, np.float32)], whole
    for size in (*sizes, len(peaks)):
        chunk, rest = rest[: size * FRAME_SAMPLES], rest[size * FRAME_SAMPLES :]
        kept.append(onset.audible(chunk))
    loud = [at for at, peak in enumerate(peaks) if peak >= AUDIBLE_PEAK]
    first = loud[0] if loud else len(peaks)
    np.testing.assert_array_equal(np.concatenate(kept), whole[first * FRAME_SAMPLES :])
    assert onset.dropped_frames == first and onset.passed == bool(loud)


def test_a_pause_later_on_stays() -> None:
    onset = Onset()
    assert len(onset.audible(sound([0.0, 0.2]))) == FRAME_SAMPLES
    assert len(onset.audible(sound([0.0, 0.0]))) == 2 * FRAME_SAMPLES


def loaded(folder: Path, graphs: RecordingGraphs | None) -> Qwen3Engine:
    options = Qwen3Options(model=folder, device="cpu", threads=1, positions=128, capacity=2)
    engine = Qwen3Engine(options, None if graphs is None else Capturing(graphs))
    engine.load()
    return engine


@pytest.fixture(scope="module", params=["plain", "captured"])
def engine(request: pytest.FixtureRequest, tiny_checkpoint: Checkpoints) -> Iterator[Qwen3Engine]:
    graphs = RecordingGraphs() if request.param == "captured" else None
    made = loaded(tiny_checkpoint("0.6B-CustomVoice"), graphs)
    yield made
    made.unload()


@dataclass
class Hushed:
    """Sound on its way of which the first ``silent`` samples are silent."""

    sounding: Any
    silent: int

    def take(self) -> list[Samples]:
        taken = [np.array(samples) for samples in self.sounding.take()]
        for samples in taken:
            samples[: self.silent] *= AUDIBLE_PEAK / 2
        return taken

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sounding, name)


@dataclass
class SilentAtFirst:
    """Stands before a batch's ``send``: the first ``frames`` frames that are decoded are silent."""

    send: Callable[..., Any]
    frames: int
    sent: list[int] = field(default_factory=list)

    def __call__(self, rows: Sequence[int], codes: Codes, **how: bool) -> Hushed:
        silent = max(0, self.frames - sum(self.sent))
        self.sent.append(codes.shape[1])
        return Hushed(self.send(rows, codes, **how), silent * FRAME_SAMPLES)


def spoken(engine: Qwen3Engine, frames: int = 12) -> tuple[np.ndarray, list[Samples], str | None]:
    """Codes, the pieces that have sound, and why it ended."""
    how = {"max_frames": frames, "guards": False}
    voice = engine.voices()[0]
    slot = engine.admit(Utterance((Span(TEXT),), voice, sampling=Sampling(seed=7), options=how))
    codes, pieces = engine.record(slot), []
    while not (pieces and pieces[-1].last):
        pieces += engine.step()
    return np.stack(codes), [p.samples for p in pieces if len(p.samples)], pieces[-1].finish_reason


@pytest.mark.parametrize("silent", [1, 2, 3])
def test_the_first_sound_is_the_first_audible_frame(
    engine: Qwen3Engine, silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes, usual, reason = spoken(engine)
    batch = engine._batch
    assert isinstance(batch, Batch)
    monkeypatch.setattr(batch, "send", SilentAtFirst(batch.send, silent))
    again, heard, ended = spoken(engine)
    np.testing.assert_array_equal(again, codes)
    whole = np.concatenate(usual)
    assert len(whole) == len(codes) * FRAME_SAMPLES, "random weights do not begin with silence"
    wanted = whole[silent * FRAME_SAMPLES :]
    np.testing.assert_allclose(np.concatenate(heard), wanted, atol=1e-4)
    assert len(heard[0]) == FRAME_SAMPLES and ended == reason


def test_chunks_are_short_until_something_is_heard(
    engine: Qwen3Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody plays anything yet, so nobody could run dry: the ramp begins with what is heard."""
    batch = engine._batch
    assert isinstance(batch, Batch)
    planted = SilentAtFirst(batch.send, 3)
    monkeypatch.setattr(batch, "send", planted)
    spoken(engine)
    assert planted.sent[:5] == [1, 1, 1, 1, 2]


def test_speech_without_any_sound_ends_without_any(
    engine: Qwen3Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = engine._batch
    assert isinstance(batch, Batch)
    monkeypatch.setattr(batch, "send", SilentAtFirst(batch.send, 1_000))
    codes, heard, reason = spoken(engine)
    assert len(codes) > 0 and heard == [] and reason is not None


def row(**how: Any) -> RowSpeech:
    utterance = Utterance((Span("text"),), Voice("v", "qwen3", "v", ("en",)), deadline_s=100.0)
    return RowSpeech(utterance, RequestOptions(), guarded=True, silence=SilenceGuard(24_000), **how)


def test_silence_that_is_left_out_still_ends_what_is_silent_for_too_long() -> None:
    made = row()
    for _ in range(37):
        made.push_audio(sound([0.0]))
    assert made.ended is None and not made.audible
    made.push_audio(sound([0.0]))
    assert made.ended == "length" and len(made.pop_sound()) == 0


def test_what_was_left_out_is_no_reserve_of_playback() -> None:
    made = row(sent=3)
    made.push_audio(sound([0.0, 0.0]))
    assert made.clock.underrun_at_s == pytest.approx(100.08)
    made.push_audio(sound([0.2]))
    assert made.audible and made.clock.underrun_at_s == pytest.approx(100.08)
