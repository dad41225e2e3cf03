"""One bit that has flipped anywhere in the cache of a voice is found, and the cut is made anew."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from vivavoce.engines.piper.cut_cache import cut_files, read_cut
from vivavoce.engines.piper.model import VoiceModel
from vivavoce.engines.piper.voice_files import packaged_voice

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
