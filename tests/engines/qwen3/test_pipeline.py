"""What a step gives to the codec, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.engines.qwen3.batch import Batch
from vivavoce.engines.qwen3.codec_windows import ReadyAudio
from vivavoce.engines.qwen3.frame_runner import Codes
from vivavoce.engines.qwen3.options import RequestOptions
from vivavoce.engines.qwen3.pace import RAMP
from vivavoce.engines.qwen3.pipeline import Pipeline
from vivavoce.engines.qwen3.row_speech import FRAME_SAMPLES, RowSpeech
from vivavoce.engines.utterance import SilenceGuard
from vivavoce.types import Span, Utterance, Voice

CODES = 16
VOICE = Voice("ryan", "qwen3", "Ryan", ())


@dataclass
class Recorder:
    """A batch that notes what it is given: rows, and codes [rows, frames, 16]."""

    sent: list[tuple[tuple[int, ...], Codes]] = field(default_factory=list)
    captured_rows: int | None = None

    def send(self, rows: Sequence[int], codes: Codes, *, last: bool, urgent: bool) -> ReadyAudio:
        assert not last and not urgent
        self.sent.append((tuple(rows), codes))
        return ReadyAudio(
            [np.repeat(each[:, 0], FRAME_SAMPLES).astype(np.float32) for each in codes]
        )


def speech(row: int, deadline_s: float, sent: int, waiting: int) -> RowSpeech:
    """Codes are the row's number."""
    utterance = Utterance((Span("Hello."),), voice=VOICE, deadline_s=deadline_s)
    made = RowSpeech(
        utterance, RequestOptions(), guarded=False, silence=SilenceGuard(24_000), sent=sent
    )
    made.waiting = [np.full(CODES, row) for _ in range(waiting)]
    return made


def decoded(speeches: dict[int, RowSpeech], due: dict[int, int]) -> list[tuple[int, ...]]:
    """The rows of each chunk, as they were sent."""
    batch = Recorder()
    Pipeline().decode(cast(Batch, batch), due, speeches)
    for rows, codes in batch.sent:
        assert codes.shape == (len(rows), due[rows[0]], CODES)
        assert (codes == np.array(rows)[:, None, None]).all()
    return [rows for rows, _ in batch.sent]


def test_whose_playback_runs_dry_first_is_decoded_first() -> None:
    """A long chunk of a row that is nearly dry goes before the first frame of a new one."""
    speeches = {0: speech(0, 100.0, 0, 1), 1: speech(1, 90.0, 4, 12), 2: speech(2, 80.0, 0, 4)}
    assert decoded(speeches, {0: 1, 1: 12, 2: 4}) == [(2,), (1,), (0,)]


def test_what_was_sent_counts_as_a_reserve() -> None:
    speeches = {0: speech(0, 50.0, 10, 1), 1: speech(1, 50.5, 2, 2)}
    assert decoded(speeches, {0: 1, 1: 2}) == [(1,), (0,)]


def test_the_most_urgent_of_a_group_takes_the_others_along() -> None:
    speeches = {0: speech(0, 30.0, 0, 1), 1: speech(1, 99.0, 0, 8), 2: speech(2, 20.0, 0, 8)}
    assert decoded(speeches, {0: 1, 1: 8, 2: 8}) == [(1, 2), (0,)]


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 50), st.sampled_from((0, *RAMP)))))
def test_chunks_go_in_the_order_of_their_deadlines(rows: list[tuple[int, int, int]]) -> None:
    """Every row that is due once, and all of its frames."""
    speeches = {row: speech(row, float(at), sent, n) for row, (at, sent, n) in enumerate(rows)}
    due = {row: frames for row, (_, _, frames) in enumerate(rows)}
    dry_s = {row: each.clock.underrun_at_s for row, each in speeches.items()}
    sent = decoded(speeches, due)
    first_s = [min(dry_s[row] for row in group) for group in sent]
    assert first_s == sorted(first_s)
    assert sorted(row for group in sent for row in group) == [row for row in due if due[row]]
    assert all(not each.waiting for each in speeches.values())


def test_last_chunks_go_with_longer_ones_and_give_their_own_sound() -> None:
    """What is captured for eight frames decodes five just as well."""
    speeches = {row: speech(row, 0.0, 20, frames) for row, frames in ((1, 5), (2, 8), (3, 2))}
    batch, pipeline = Recorder(captured_rows=4), Pipeline()
    pipeline.decode(cast(Batch, batch), {1: 5, 2: 8, 3: 2}, speeches)
    assert [(rows, codes.shape[1]) for rows, codes in batch.sent] == [((3,), 2), ((1, 2), 8)]
    assert (batch.sent[1][1][0, 5:] == 0).all()
    pipeline.hear()
    heard = {row: len(each.pop_sound()) for row, each in speeches.items()}
    assert heard == {1: 5 * FRAME_SAMPLES, 2: 8 * FRAME_SAMPLES, 3: 2 * FRAME_SAMPLES}
