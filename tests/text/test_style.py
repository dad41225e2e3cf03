from __future__ import annotations

import pytest

from vivavoce.text.style import SLOW_ROOM, STYLE_ROOM, style_room


@pytest.mark.parametrize("nothing", [None, "", "  \n"])
def test_without_instructions_nothing_changes(nothing: str | None) -> None:
    assert style_room(nothing) == 1.0


@pytest.mark.parametrize(
    "instructions",
    [
        "Speak very slowly.",
        "SLOW and calm",
        "An old man who takes long pauses.",
        "Take your time.",
        "Like a bedtime story",
        "with a Southern drawl",
        "Sprich sehr langsam und deutlich.",
        "Parle lentement.",
        "Habla despacio.",
        "Parla lentamente.",
        "Fale devagar.",
        "用很慢的语速说",
        "ゆっくり話してください",
        "아주 천천히 말해 주세요",
        "Говори медленно.",
    ],
)
def test_slow_styles_get_the_most_room(instructions: str) -> None:
    assert style_room(instructions) == SLOW_ROOM


@pytest.mark.parametrize("instructions", ["Whisper.", "Angry, and fast.", "A young woman."])
def test_any_style_gets_some(instructions: str) -> None:
    assert style_room(instructions) == STYLE_ROOM
