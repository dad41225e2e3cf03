from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from engines.qwen3.tiny import GREEDY, Bench, config_of, tiny_json
from vivavoce.engines.qwen3.prompt import PromptInputs, embed, plan
from vivavoce.engines.qwen3.rows import RowOptions, Rows
from vivavoce.errors import InputError
from vivavoce.runtime.kernels.frame_ends import Status
from vivavoce.runtime.nn.sampling import SamplerOptions

RYAN = PromptInputs([11, 12, 13], speaker="ryan")


@pytest.fixture
def bench() -> Bench:
    return Bench.build(config_of(tiny_json("custom_voice", groups=4)), rows=3, positions=32)


def test_admission_sets_one_row_alone(bench: Bench) -> None:
    before = [value.clone() for value in tensors(bench.rows)]
    sampler = SamplerOptions(temperature=0.5, top_k=7, top_p=0.9)
    options = RowOptions(talker=sampler, codes=sampler, repetition_penalty=1.5, seed=2**40 + 3)
    bench.start(1, RYAN, options)
    state = bench.rows.state
    for value, old in zip(tensors(bench.rows), before, strict=True):
        assert torch.equal(value[[0, 2]], old[[0, 2]])
    assert state.active.tolist() == [False, True, False]
    assert state.positions[1] == 9
    assert state.limit[1] == 32 - 9
    assert state.text[1, : int(state.written[1])].tolist() == [12, 13, 904]
    assert state.seeds[1].tolist() == [3, 256]
    assert float(state.talker_sampler.temperature[1]) == 0.5
    assert int(state.code_sampler.top_k[1]) == 7


def tensors(rows: Rows) -> list[Tensor]:
    return [
        getattr(rows.state, field.name)
        for field in fields(rows.state)
        if isinstance(getattr(rows.state, field.name), Tensor)
    ]


def test_a_row_used_before_speaks_as_a_fresh_one(bench: Bench) -> None:
    def speak() -> list[tuple[Status, list[int]]]:
        bench.start(2, RYAN, replace(GREEDY, max_frames=5))
        results = [bench.frame()[2] for _ in range(5)]
        bench.rows.release(2)
        return [(status, codes.tolist()) for status, codes in results]

    first = speak()
    bench.start(2, PromptInputs([40, 41, 42, 43], speaker="eric"), replace(GREEDY, seed=9))
    bench.frame()
    bench.rows.release(2)
    assert speak() == first
    assert [status for status, _ in first] == [Status.EMITTED] * 4 + [Status.EMITTED | Status.LIMIT]


def test_a_released_row_does_nothing(bench: Bench) -> None:
    bench.start(0, RYAN, GREEDY)
    bench.frame()
    bench.rows.release(0)
    assert bench.rows.state.positions[0] == 31
    assert [status for status, _ in bench.frame()] == [Status(0)] * 3


def test_the_first_rows_share_memory(bench: Bench) -> None:
    part = bench.rows.first(2)
    bench.start(1, RYAN, GREEDY)
    assert part.active.tolist() == [False, True]
    part.codes[1] = 5
    assert bench.rows.state.codes[1].tolist() == [5] * 4
    assert part.predictor.kv.keys.shape[1] == 2
    assert part.kv.keys.data_ptr() == bench.rows.state.kv.keys.data_ptr()


def test_no_room_for_a_prompt(bench: Bench) -> None:
    prompt = torch.zeros(32, 32)
    with pytest.raises(InputError, match="32 positions"):
        bench.rows.prefill(bench.talker, 0, prompt)
    with pytest.raises(InputError, match="32 positions"):
        bench.rows.admit(0, prompt[0], 32, [1], GREEDY)
    assert not bench.rows.state.active.any()


def test_more_text_than_a_row_can_say(bench: Bench) -> None:
    bench.start(0, replace(RYAN, text_open=True), GREEDY)
    bench.rows.extend(0, [1] * 30)
    with pytest.raises(InputError, match="33 tokens"):
        bench.rows.extend(0, [1])
    assert bench.rows.state.written[0] == 32


def test_the_end_of_the_buffer_is_a_limit(bench: Bench) -> None:
    bench.start(0, RYAN, replace(GREEDY, max_frames=1000))
    statuses = [bench.frame()[0][0] for _ in range(24)]
    assert statuses == [Status.EMITTED] * 22 + [Status.EMITTED | Status.LIMIT, Status(0)]


def test_what_a_failed_row_leaves_does_not_spread(bench: Bench) -> None:
    bench.start(0, RYAN, GREEDY)
    bench.start(1, RYAN, GREEDY)
    expected = bench.frame()[1][1].tolist()
    bench.rows.state.pending[0] = torch.nan
    failed, healthy = bench.frame()[:2]
    assert failed[0] == Status.FAILED
    assert failed[1].tolist() == [0] * 4
    assert healthy[0] == Status.EMITTED
    bench.rows.release(0)
    bench.rows.scrub(0)
    bench.start(0, RYAN, GREEDY)
    status, codes = bench.frame()[0]
    assert (status, codes.tolist()) == (Status.EMITTED, expected)


@pytest.mark.parametrize("wrong", [{"repetition_penalty": 0.0}, {"max_frames": 0}])
def test_options_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError) as raised:
        RowOptions(**wrong)  # type: ignore[arg-type]
    assert raised.value.param in wrong


def test_a_kept_prefix_saves_its_prefill(bench: Bench) -> None:
    laid = plan(bench.config, RYAN)
    hidden = bench.rows.prefill(bench.talker, 0, embed(bench.talker, laid.rows, RYAN))
    kept = bench.rows.keep_prefix(0, laid.prefix)
    assert kept.keys.shape[3] == 9 - 1
    start = bench.rows.restore_prefix(2, kept)
    rest = embed(bench.talker, laid.rows[start:], RYAN)
    assert torch.allclose(bench.rows.prefill(bench.talker, 2, rest, start), hidden, atol=1e-5)
