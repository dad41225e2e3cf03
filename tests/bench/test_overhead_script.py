"""The overhead benchmark speaks HTTP and WebSocket by hand; here against a real server."""

from __future__ import annotations

import asyncio
import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return importlib.import_module("vivavoce.bench.recipes.server_overhead")


@pytest.mark.parametrize("transport", ["http", "ws"])
def test_every_sample_is_counted(script: Any, stand_in: Any, transport: str) -> None:
    streams = asyncio.run(script.speak_all(stand_in.url, transport, ["abba", "bebe", "cici"]))
    assert [stream.samples[-1] for stream in streams] == [stand_in.rate_hz * stand_in.audio_s] * 3
    assert {text.split()[0] for text in stand_in.texts} == {stream.word for stream in streams}


@pytest.mark.parametrize("cut", range(1, 9))
def test_frames_cut_anywhere_give_the_same(script: Any, cut: int) -> None:
    long = bytes([0x82, 126]) + (300).to_bytes(2, "big") + bytes(300)
    wires = {
        script.Chunked: b"4\r\nabcd\r\n12c\r\n" + bytes(300) + b"\r\n0\r\n\r\n",
        script.Frames: b"\x82\x04abcd" + long + b'\x81\x10{"event":"done"}',
    }
    for framing_type, wire in wires.items():
        framing = framing_type()
        parts = [wire[at : at + cut] for at in range(0, len(wire), cut)]
        assert sum(framing.feed(part) for part in parts) == 304
        assert framing.ended


def test_delays_match_journal_and_arrivals(script: Any, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    lines = [
        {"t_ns": 1_000_000, "text": "Abc and so on", "samples": 2400},
        {"t_ns": 9_000_000, "text": "Abc and so on", "samples": 4800},
        {"t_ns": 9_000_000, "text": "other", "samples": 100},
    ]
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    stream = script.Stream("abc")
    for at_ns, samples in ((2_000_000, 2160), (9_500_000, 2640)):
        stream.note(at_ns, 2 * samples)
    found = script.delays_ms([stream], journal)
    assert found == {"received": [1.0, 0.5], "kept_back": [10.0]}
