"""What ``Server-Timing`` says, and what it leaves to the network."""

from __future__ import annotations

import pytest

from vivavoce.bench.heard import Breakdown, ServerTimes, break_down, server_times


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("queue;dur=1.5, first;dur=20.0", ServerTimes(1.5, 20.0)),
        ("queue;dur=1,first ; dur=2, total;dur=3.0, playback;dur=4", ServerTimes(1, 2, 3, 4)),
        ("cache;desc=hit, queue;dur=1, first;dur=2", ServerTimes(1, 2)),
        ("db;dur=53", None),
        ("queue;dur=1.2.3, first;dur=2", None),
        ("", None),
        (None, None),
    ],
)
def test_the_header_is_read(header: str | None, told: ServerTimes | None) -> None:
    assert server_times(header) == told


@pytest.mark.parametrize(
    ("server", "parts"),
    [
        (ServerTimes(10, 40), Breakdown(10, 30, 0, 460)),
        (ServerTimes(10, 40, 100), Breakdown(10, 90, 0, 400)),
        (ServerTimes(10, 40, 100, 300), Breakdown(10, 90, 300, 100)),
        (ServerTimes(0, 600), Breakdown(0, 600, 0, 0)),
    ],
)
def test_a_wait_of_half_a_second_in_parts(server: ServerTimes, parts: Breakdown) -> None:
    assert break_down(500.0, server) == parts
