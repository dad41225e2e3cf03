"""How much of a text is one utterance."""

from __future__ import annotations

from typing import Any

import pytest

from vivavoce.engines.base import EngineInfo, TextLiking
from vivavoce.speech.request import group_seconds
from vivavoce.types import SpeechRequest

LIKES_GROUPS = EngineInfo(
    "patient", "some", 24_000, text=TextLiking(20.0), own_length_option="longest"
)
LIKES_CLAUSES = EngineInfo("hasty", "some", 24_000)


@pytest.mark.parametrize(
    ("how", "expected_s"),
    [
        ({}, 20.0),
        ({"stream_mode": "sentence"}, 0.0),
        ({"options": {"longest": 250}}, 0.0),
        ({"options": {"longest": None}}, 0.0),
        ({"options": {"greedy": True}}, 20.0),
    ],
)
def test_what_asks_for_clauses(how: dict[str, Any], expected_s: float) -> None:
    request = SpeechRequest("One. Two.", **how)
    assert group_seconds(request, LIKES_GROUPS) == expected_s
    assert group_seconds(request, LIKES_CLAUSES) == 0.0
