from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.text.duration import expected_duration_s, max_duration_s


@pytest.mark.parametrize(
    ("text", "low_s", "high_s"),
    [
        ("Huh?", 0.2, 1.0),
        ("Hello there, how are you today?", 1.5, 3.5),
        ("The quick brown fox jumps over the lazy dog.", 2.0, 3.5),
        ("five five five, one two three, four five six seven", 2.5, 5.5),
        ("今日は天気がいいですね。", 1.8, 3.5),
        ("Привет, как дела?", 1.0, 2.5),
        ("नमस्ते, आप कैसे हैं?", 1.0, 3.0),
        ("FBI", 0.6, 1.5),
        ("1234567890", 2.5, 5.0),
        ("x", 0.2, 1.0),
    ],
)
def test_expected_is_near_what_a_person_takes(text: str, low_s: float, high_s: float) -> None:
    assert low_s <= expected_duration_s(text) <= high_s


def test_a_short_word_is_not_allowed_to_run_on() -> None:
    assert max_duration_s("Huh?") < 4.0


def test_a_slow_honest_reading_is_never_cut() -> None:
    number = "five five five, one two three, four five six seven. "
    slow_s = 40 * (10 * 0.55 + 2 * 0.7 + 1.0)
    assert max_duration_s(number * 40) > slow_s
    assert max_duration_s("555-123-4567 " * 40) > 40 * 10 * 0.55
    slow_words_per_s = 100 / 60
    assert max_duration_s("seven days " * 100) > 200 / slow_words_per_s
    assert max_duration_s("話" * 100) > 100 / 3


def test_nothing_takes_no_time() -> None:
    assert expected_duration_s("") == expected_duration_s(" ...!") == 0.0


def test_speed_scales_everything() -> None:
    text = "Hello there, my friend."
    assert expected_duration_s(text, 2.0) == pytest.approx(expected_duration_s(text) / 2)
    assert max_duration_s(text, 0.5) == pytest.approx(max_duration_s(text) * 2)


@given(st.text(max_size=200), st.text(max_size=50), st.floats(0.25, 4.0))
def test_bounds_hold_for_any_text(text: str, more: str, speed: float) -> None:
    assert 0.0 <= expected_duration_s(text, speed) < max_duration_s(text, speed)
    joined = expected_duration_s(f"{text} {more}", speed)
    assert joined >= expected_duration_s(text, speed) - 1e-9


@pytest.mark.parametrize(("letters", "seconds"), [("ሰላም" * 3, 17), ("สวัสดีครับ" * 2, 23)])
def test_a_voice_may_name_the_letters_that_it_cannot_read(letters: str, seconds: float) -> None:
    """Measured on an English voice, which says "Ethiopic letter …" for each."""
    assert max_duration_s(letters, language="en") > seconds
    assert max_duration_s(letters) == max_duration_s(letters, language="am")
    assert max_duration_s("Zażółć gęślą jaźń", language="pl") == max_duration_s("Zażółć gęślą jaźń")
