"""Windows cover a text exactly once, for every plan."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vivavoce.engines.piper.windows import WindowPlan


@given(
    st.integers(1, 100),
    st.integers(1, 200),
    st.floats(1.0, 5.0),
    st.integers(0, 30),
    st.integers(1, 3_000),
)
def test_windows_tile_the_text(
    first: int, largest: int, growth: float, context: int, frames: int
) -> None:
    plan = WindowPlan(first, largest, growth, context)
    start = index = 0
    while start < frames:
        window = plan.window(index, start, frames)
        assert window.start == start < window.end <= frames
        assert window.seen_start == max(0, start - context)
        assert window.seen_end == min(frames, window.end + context)
        assert window.end - start <= 1.5 * plan.size(index)
        start, index = window.end, index + 1


def test_sizes_grow_to_the_largest() -> None:
    plan = WindowPlan(16, 64, 2.0, 11)
    assert [plan.size(index) for index in range(5)] == [16, 32, 64, 64, 64]
    assert WindowPlan(100, 64, 2.0, 11).size(0) == 64
    assert [WindowPlan(20, 64, 1.0, 11).size(index) for index in (0, 9)] == [20, 20]
