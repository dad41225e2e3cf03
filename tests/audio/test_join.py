from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio.sounds import cut, voice_like
from vivavoce.audio.join import TAIL_MS, Joiner, pause_ms, silence
from vivavoce.testing.clicks import find_clicks
from vivavoce.types import ClauseEnd, Samples

HZ = 24_000
NOTHING = np.zeros(0, np.float32)


@dataclass(frozen=True)
class Said:
    """A clause for the joiner."""

    sound: Samples
    end: ClauseEnd = "sentence"
    pause_ms: float | None = None


def joined(
    clauses: Sequence[Said], sizes: Sequence[int] = (1_000,), speed: float = 1.0, hz: int = HZ
) -> Samples:
    joiner = Joiner(hz, speed)
    out: list[Samples] = []
    for clause in clauses:
        joiner.begin_clause()
        out.extend(joiner.push(piece) for piece in cut(clause.sound, sizes))
        out.append(joiner.end_clause(clause.end, clause.pause_ms))
    return np.concatenate([*out, joiner.finish()])


def silent_runs_ms(samples: Samples, hz: int = HZ) -> list[float]:
    """Durations of the runs of exact zeros of 15 ms and more."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], samples == 0, [0]]).astype(int)))
    runs = np.diff(edges.reshape(-1, 2), axis=1)[:, 0] * 1000 / hz
    return [round(float(run)) for run in runs if run >= 15]


VOICE = voice_like(0.3, HZ)


@pytest.mark.parametrize(
    ("end", "low_ms", "high_ms"),
    [("clause", 80, 120), ("sentence", 220, 300), ("paragraph", 450, 600)],
)
def test_natural_pauses(end: ClauseEnd, low_ms: float, high_ms: float) -> None:
    assert low_ms <= pause_ms(end) <= high_ms
    pause, tail = silent_runs_ms(joined([Said(VOICE, end), Said(VOICE)]))
    assert pause == pytest.approx(pause_ms(end), abs=1)
    assert tail == pytest.approx(TAIL_MS, abs=1)


def test_faster_speech_has_shorter_pauses() -> None:
    assert pause_ms("sentence", 2.0) == pause_ms("sentence") / 2
    assert silent_runs_ms(joined([Said(VOICE), Said(VOICE)], speed=2.0))[0] == pytest.approx(
        pause_ms("sentence") / 2, abs=1
    )


def test_an_explicit_pause_replaces_the_natural_one_at_any_speed() -> None:
    runs = silent_runs_ms(joined([Said(VOICE, pause_ms=700), Said(VOICE)], speed=2.0))
    assert runs == [700, TAIL_MS]
    assert silent_runs_ms(joined([Said(VOICE, pause_ms=0), Said(VOICE)])) == [TAIL_MS]


def test_an_explicit_pause_at_the_very_end_is_kept() -> None:
    assert silent_runs_ms(joined([Said(VOICE, pause_ms=900)])) == [900]
    assert silent_runs_ms(joined([Said(VOICE, pause_ms=20)])) == [TAIL_MS]


def test_pause_only_clauses_add_up() -> None:
    clauses = [Said(VOICE), Said(NOTHING, pause_ms=300), Said(NOTHING, pause_ms=200), Said(VOICE)]
    assert silent_runs_ms(joined(clauses)) == [500, TAIL_MS]


def test_a_leading_explicit_pause_is_kept() -> None:
    assert silent_runs_ms(joined([Said(NOTHING, pause_ms=250), Said(VOICE)])) == [250, TAIL_MS]


def test_clauses_without_sound_leave_no_trace() -> None:
    quiet = np.zeros(HZ, np.float32)
    alone = joined([Said(VOICE), Said(VOICE)])
    assert np.array_equal(joined([Said(quiet), Said(VOICE), Said(quiet), Said(VOICE)]), alone)
    assert len(joined([Said(quiet), Said(NOTHING)])) == 0
    assert len(joined([])) == 0


def test_the_first_clause_starts_at_once() -> None:
    joiner = Joiner(HZ)
    joiner.begin_clause()
    assert len(joiner.push(VOICE)) / HZ >= 0.29


def test_finish_ends_an_open_clause() -> None:
    joiner = Joiner(HZ)
    joiner.begin_clause()
    got = np.concatenate([joiner.push(VOICE), joiner.finish()])
    assert len(got) / HZ == pytest.approx(0.3 + TAIL_MS / 1000, abs=0.001)


def test_silence_has_the_length_asked_for() -> None:
    assert len(silence(250, 8_000)) == 2_000
    assert len(silence(-5, 8_000)) == 0


def test_joined_speech_has_no_clicks(piper_speech: list[Samples]) -> None:
    """Clauses cut in the middle of a vowel are the worst case."""
    pieces = [sound[: len(sound) // 2] for sound in piper_speech]
    clauses = [Said(sound, "clause", 0.0) for sound in (*pieces, *piper_speech)]
    assert find_clicks(joined(clauses, hz=22_050), 22_050) == []


def test_the_same_speech_put_together_bare_has_clicks(piper_speech: list[Samples]) -> None:
    loud = [sound[: int(np.argmax(np.abs(sound)))] for sound in piper_speech]
    bare = np.concatenate([np.concatenate([sound, np.zeros(500, np.float32)]) for sound in loud])
    assert len(find_clicks(bare, 22_050)) == len(loud)


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(0, 2_000), st.booleans()), max_size=5),
    ends=st.lists(st.sampled_from(["clause", "sentence", "paragraph"]), min_size=5, max_size=5),
    pauses=st.lists(st.sampled_from([None, 0.0, 33.3]), min_size=5, max_size=5),
    sizes=st.lists(st.integers(0, 500), min_size=1, max_size=4),
)
def test_any_chunking_gives_the_same_samples(lengths, ends, pauses, sizes) -> None:
    clauses = [
        Said(voice_like(n / HZ, HZ) * loud, end, pause)
        for (n, loud), end, pause in zip(lengths, ends, pauses, strict=False)
    ]
    assert np.array_equal(joined(clauses, [10_000]), joined(clauses, sizes))
