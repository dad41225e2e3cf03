from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vivavoce.speech.voices import VoiceLibrary
from vivavoce.testing.fake_engine import FakeEngine
from vivavoce.types import ReferenceAudio


def test_table(vivavoce: Callable[..., Any]) -> None:
    ran = vivavoce("voices")
    assert ran.status == 0
    assert "alto (default)" in ran.out
    assert "alloy" in ran.out


def test_json_with_a_saved_voice(vivavoce: Callable[..., Any], tmp_path: Path) -> None:
    engine = FakeEngine()
    cloned = engine.clone(ReferenceAudio(np.zeros(10, np.float32), 8_000))
    VoiceLibrary(engine, tmp_path / "data" / "voices").save("mine", cloned, "A voice.", "cons_1")
    voices = {row["voice"]: row for row in json.loads(vivavoce("voices", "--json").out)}
    assert voices["mine"]["kind"] == "saved"
    assert voices["mine"]["description"] == "A voice."
    assert voices["mine"]["consent"] == "cons_1"
    assert voices["alto"]["kind"] == "built in"
    assert voices["alto"]["default"]
    assert len(voices["alto"]["aliases"]) == 13
