"""What is cut off a window's context on the way, and a cut that is damaged."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vivavoce.engines.piper.cut_voice import (
    Margins,
    Trim,
    cut_files,
    left_over,
    read_cut,
    trim_feed,
)
from vivavoce.engines.piper.model import VoiceModel
from vivavoce.engines.piper.voice_files import packaged_voice

FRAMES = 90
few = settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def frames(channels: int = 192) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((channels, FRAMES), np.float32)


def margins_around(start: int, end: int, context: int) -> tuple[slice, Margins]:
    first, last = max(0, start - context), min(FRAMES, end + context)
    return slice(first, last), Margins(start - first, last - end)


@few
@given(start=st.integers(0, FRAMES - 1), length=st.integers(1, FRAMES))
def test_a_window_of_the_decoder_is_a_window_of_the_whole(
    model: VoiceModel, start: int, length: int
) -> None:
    whole, end = model.decode(frames(), None), min(FRAMES, start + length)
    seen, margins = margins_around(start, end, model.decoder_radius_frames)
    part = model.decode(frames()[:, seen], None, margins)
    expected = whole[start * model.hop_samples : end * model.hop_samples]
    assert part.shape == expected.shape
    assert np.abs(part - expected).max() <= 1e-5


@few
@given(start=st.integers(0, FRAMES - 1), length=st.integers(1, FRAMES))
def test_a_run_of_the_flow_is_a_part_of_the_whole(
    model: VoiceModel, start: int, length: int
) -> None:
    whole, end = model.flow(frames(), None), min(FRAMES, start + length)
    seen, margins = margins_around(start, end, model.flow_radius_frames)
    part = model.flow(frames()[:, seen], None, margins)
    assert part.shape == whole[:, start:end].shape
    assert np.abs(part - whole[:, start:end]).max() <= 1e-4


def test_less_context_than_the_graph_looks_would_be_noticed(model: VoiceModel) -> None:
    whole = model.decode(frames(), None)
    seen, margins = margins_around(40, 60, 3)
    part = model.decode(frames()[:, seen], None, margins)
    assert np.abs(part - whole[40 * model.hop_samples : 60 * model.hop_samples]).max() > 1e-4


@pytest.mark.parametrize(
    ("margins", "cuts", "rest"),
    [
        (Margins(12, 12), [(3, 3), (17, 17)], Margins(220, 220)),
        (Margins(0, 12), [(0, 3), (0, 17)], Margins(0, 220)),
        (Margins(5, 0), [(0, 0), (0, 0)], Margins(160, 0)),
    ],
)
def test_what_is_cut_and_what_is_left(
    margins: Margins, cuts: list[tuple[int, int]], rest: Margins
) -> None:
    trims = (Trim(factor=1, need=9), Trim(factor=8, need=55))
    feed = trim_feed(trims, margins)
    for number, (left, right) in enumerate(cuts):
        assert feed[f"trim_start_{number}"] == [left]
        end = feed[f"trim_end_{number}"][0]
        assert end == -right if right else end == np.iinfo(np.int64).max
    assert left_over(trims, margins, 32) == rest


FILES = ("encoder.onnx", "flow.onnx", "decoder.onnx", "cut.json")
FLIPS = 12


@pytest.fixture
def kept(model: VoiceModel, cache_dir: Path, tmp_path: Path) -> Path:
    """A copy of the cut voice; ``model`` has made it."""
    (folder,) = (cache_dir / "piper").iterdir()
    return Path(shutil.copytree(folder, tmp_path / "piper" / folder.name))


def flip_a_bit(path: Path, seed: int) -> None:
    data = bytearray(path.read_bytes())
    choice = random.Random(seed)
    data[choice.randrange(len(data))] ^= 1 << choice.randrange(8)
    path.write_bytes(data)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_found_wherever_it_is(kept: Path, name: str) -> None:
    sha256 = kept.name.partition("-")[0]
    assert read_cut(kept, sha256) is not None
    whole = (kept / name).read_bytes()
    for seed in range(FLIPS if name == "cut.json" else 2):
        flip_a_bit(kept / name, seed)
        assert read_cut(kept, sha256) is None
        (kept / name).write_bytes(whole)


def test_a_number_that_was_altered_is_found(kept: Path) -> None:
    path = kept / "cut.json"
    facts = json.loads(path.read_text())
    facts["hop_samples"] += 1
    path.write_text(json.dumps(facts))
    assert read_cut(kept, kept.name.partition("-")[0]) is None


def test_what_is_damaged_is_made_anew(kept: Path, cache_dir: Path, tmp_path: Path) -> None:
    files = packaged_voice()
    assert files is not None
    flip_a_bit(kept / "decoder.onnx", 1)
    with cut_files(files.model, kept.name.partition("-")[0], tmp_path) as cut:
        (first,) = (cache_dir / "piper").iterdir()
        assert cut.path("decoder").read_bytes() == (first / "decoder.onnx").read_bytes()
