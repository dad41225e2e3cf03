from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio.sounds import cut, noise, stream, voice_like
from vivavoce.audio.join import (
    FADE_MS,
    MAX_HELD_S,
    TAIL_MS,
    ClauseTrimmer,
    Joiner,
    pause_ms,
    silence,
)
from vivavoce.testing.clicks import find_clicks
from vivavoce.types import ClauseEnd, Samples, WordTiming

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


def quiet(duration_s: float, db: float = -80.0) -> Samples:
    """A noise floor."""
    return noise(duration_s, HZ, peak=10 ** (db / 20))


def trimmed(*parts: Samples, size: int = 1_000) -> Samples:
    return stream(ClauseTrimmer(HZ), cut(np.concatenate(parts), [size]))


def test_leading_and_trailing_silence_go() -> None:
    sound = voice_like(0.5, HZ)
    got = trimmed(quiet(0.4), sound, quiet(0.7))
    # 10 ms before, 20 ms after, and a block of 5 ms at either edge at most.
    assert 0.52 <= len(got) / HZ <= 0.54


def test_inner_silence_stays_whole() -> None:
    got = trimmed(voice_like(0.3, HZ), quiet(0.6), voice_like(0.3, HZ))
    assert len(got) / HZ == pytest.approx(1.2, abs=0.001)


def test_sound_itself_is_untouched_between_the_fades() -> None:
    sound = voice_like(0.5, HZ)
    got = trimmed(sound)
    fade = round(FADE_MS / 1000 * HZ)
    assert np.array_equal(got[fade:-fade], sound[fade:-fade])


def test_edges_start_and_end_near_zero() -> None:
    got = trimmed(np.full(HZ // 2, 0.5, np.float32))
    assert abs(got[0]) < 1e-3
    assert abs(got[-1]) < 1e-3
    assert np.abs(np.diff(got)).max() < 0.01


@pytest.mark.parametrize("silence", [np.zeros(HZ, np.float32), quiet(1.0), quiet(1.0, db=-55)])
def test_silence_alone_leaves_nothing(silence: Samples) -> None:
    assert len(trimmed(silence)) == 0


def test_nothing_leaves_nothing() -> None:
    assert len(ClauseTrimmer(HZ).finish()) == 0


def test_a_soft_ending_is_not_cut() -> None:
    """Above the level where sound ends, below the one where it starts."""
    soft = quiet(0.1, db=-48)
    assert len(trimmed(voice_like(0.2, HZ), soft, quiet(0.5))) / HZ >= 0.3


def test_the_first_sound_is_not_delayed() -> None:
    trimmer = ClauseTrimmer(HZ)
    got = trimmer.push(voice_like(0.1, HZ))
    assert len(got) / HZ >= 0.09


def test_leading_silence_and_held_silence_use_bounded_memory() -> None:
    trimmer = ClauseTrimmer(HZ)
    for _ in range(20):
        assert len(trimmer.push(quiet(1.0))) == 0
    assert len(trimmer._pre_roll) == HZ // 100
    trimmer.push(voice_like(0.1, HZ))
    released = sum(len(trimmer.push(quiet(1.0))) for _ in range(15))
    assert released / HZ == pytest.approx(15 - MAX_HELD_S, abs=0.1)


def test_the_callers_array_is_left_alone() -> None:
    sound = voice_like(0.2, HZ)
    before = sound.copy()
    trimmed(sound, size=len(sound))
    assert np.array_equal(sound, before)


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(st.tuples(st.integers(0, 3_000), st.sampled_from([-90, -56, -20])), max_size=6),
    sizes=st.lists(st.integers(0, 700), min_size=1, max_size=5),
)
def test_any_chunking_trims_to_the_same_samples(
    parts: list[tuple[int, int]], sizes: list[int]
) -> None:
    empty = np.zeros(0, np.float32)
    sound = np.concatenate([empty, *(quiet(n / HZ, db) for n, db in parts)])
    whole = stream(ClauseTrimmer(HZ), [sound])
    assert np.array_equal(whole, stream(ClauseTrimmer(HZ), cut(sound, sizes)))


def test_words_move_with_their_sound() -> None:
    """Leading silence goes, a pause comes in between, and an edge holds what was beyond it."""
    joiner = Joiner(HZ)
    lead, voice = quiet(0.4), VOICE
    first = WordTiming("one", len(lead), len(lead) + len(voice))
    out = [joiner.push(np.concatenate([lead, voice]), (first,))]
    assert joiner.take_words() == (), "its sound is not out yet"
    out.append(joiner.end_clause("sentence"))
    (placed,) = joiner.take_words()
    start, end = round(0.010 * HZ), sum(map(len, out))
    assert placed.text == "one" and placed.end_sample == end
    assert placed.start_sample == pytest.approx(start, abs=round(0.005 * HZ))

    second = WordTiming("two", 0, len(voice) - 4_000)
    out.append(joiner.push(voice, (second,)))
    (placed,) = joiner.take_words()
    begun = end + len(silence(pause_ms("sentence"), HZ))
    assert placed == WordTiming("two", begun, begun + len(voice) - 4_000)
    whole = np.concatenate([*out, joiner.end_clause("sentence")])
    fade = round(FADE_MS / 1000 * HZ)
    there = whole[placed.start_sample : placed.end_sample]
    assert np.array_equal(there[fade:], voice[fade : len(voice) - 4_000])


def test_words_of_a_clause_without_sound_are_left_out() -> None:
    joiner = Joiner(HZ)
    joiner.push(quiet(0.2), (WordTiming("nothing", 0, 100),))
    joiner.end_clause("sentence")
    joiner.push(VOICE, (WordTiming("some", 0, len(VOICE)),))
    joiner.end_clause("sentence")
    assert [word.text for word in joiner.take_words()] == ["some"]
