"""Sizes of the first pieces, by what a machine can feed."""

from __future__ import annotations

import numpy as np
import pytest

from engines.neutts.stubs import StubBackbone, StubCodec
from vivavoce.engines.neutts.ramp import RAMPS, SPEECH_CODES, Speed, ramp_for, starved_s
from vivavoce.engines.neutts.warm_up import measured_speed

AROUND, FORWARD = 30, 5
NANO = Speed(0.0055, 0.0055, 0.0010)
AIR = Speed(0.0110, 0.0110, 0.0012)
SLOW = Speed(0.0165, 0.021, 0.0014)


def ramp(speed: Speed) -> tuple[int, ...]:
    return ramp_for(speed, AROUND, FORWARD)


def test_a_machine_that_is_quick_enough_begins_with_the_smallest_pieces() -> None:
    assert ramp(NANO) == RAMPS[0]
    assert ramp(AIR) == RAMPS[0]


def test_a_slower_one_begins_larger_and_does_not_break_off() -> None:
    assert starved_s(RAMPS[0], SLOW, AROUND, FORWARD) > 0
    assert ramp(SLOW)[0] > RAMPS[0][0]
    assert starved_s(ramp(SLOW), SLOW, AROUND, FORWARD) == 0


def test_where_no_start_is_late_enough_it_begins_at_once() -> None:
    assert ramp(Speed(0.03, 0.04, 0.002)) == RAMPS[0]


@pytest.mark.parametrize("sizes", RAMPS)
def test_what_a_ramp_starves_by_grows_with_the_time_a_token_takes(sizes: tuple[int, ...]) -> None:
    starved = [
        starved_s(sizes, Speed(token_s, token_s, 0.001), AROUND, FORWARD)
        for token_s in np.linspace(0.002, 0.04, 12).tolist()
    ]
    assert starved == sorted(starved)
    assert starved[0] == 0 and starved[-1] > 0.5


def test_without_a_codec_the_time_of_tokens_is_all_there_is() -> None:
    behind_s = starved_s((25,), Speed(0.03, 0.03, 0.0), 0, 0)
    pieces = SPEECH_CODES // 25
    assert behind_s == pytest.approx((pieces - 1) * 25 * (0.03 - 0.02))


def test_the_warm_up_leaves_no_row_and_tells_times() -> None:
    backbone = StubBackbone(length=lambda *_: 200)
    backbone.load()
    speed = measured_speed(backbone, StubCodec())
    assert not backbone.rows
    assert min(speed.token_s, speed.token_beside_s, speed.decoded_code_s) > 0
