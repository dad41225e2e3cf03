"""The pruned copy: the same rows, the same scores, made once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from vivavoce.engines.neutts.gguf.kept_tokens import Ids
from vivavoce.engines.neutts.gguf.llama_context import ContextShape, LlamaContext
from vivavoce.engines.neutts.gguf.llama_model import LlamaModel
from vivavoce.engines.neutts.gguf.metadata import read_header
from vivavoce.engines.neutts.gguf.prune import KEPT_IDS, VOCABULARY_TENSORS, prune
from vivavoce.engines.neutts.gguf.pruned_cache import pruned_copy
from vivavoce.errors import ModelFileError

NONE = np.zeros(0, np.int32)
SHAPE = ContextShape(tokens=512, sequences=1, batch_tokens=256)


def kept_ids(path: Path) -> Ids:
    ids = read_header(path).array(KEPT_IDS)
    assert ids is not None
    return ids


def scores(path: Path, tokens: Ids) -> list[np.ndarray]:
    """Scores after a prompt, and after each of three more tokens."""
    model = LlamaModel(path)
    context = LlamaContext(model, SHAPE)
    context.set_threads(1)
    found, done = [], 0
    for part in (tokens[:-3], tokens[-3:-2], tokens[-2:-1], tokens[-1:]):
        context.batch.clear()
        place = context.batch.add(part, done, 0, scores=True)
        context.decode()
        found.append(context.scores(place).copy())
        done += len(part)
    context.close()
    model.close()
    return found


@pytest.mark.parametrize(
    ("name", "quantization"), [("nano", "F32"), ("air", "Q4_0"), ("air", "Q8_0"), ("2e", "Q8_0")]
)
def test_kept_rows_score_the_same_to_the_bit(
    tiny_model: Callable[..., Path], tmp_path: Path, name: str, quantization: str
) -> None:
    whole, pruned = tiny_model(name, quantization), tmp_path / "pruned.gguf"
    prune(whole, pruned, "phonemes", NONE, "")
    kept = kept_ids(pruned)
    assert len(kept) < LlamaModel(whole, vocab_only=True).rows
    rows = np.random.default_rng(1).integers(0, len(kept), 90).astype(np.int32)
    for mine, theirs in zip(scores(pruned, rows), scores(whole, kept[rows]), strict=True):
        assert np.array_equal(mine, theirs[kept])
        assert np.isfinite(mine).all()


@pytest.mark.slow  # the package's reader takes seconds for a vocabulary
def test_the_copy_is_a_sound_gguf_file(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    whole, path = tiny_model("nano", "Q8_0"), tmp_path / "pruned.gguf"
    rows = prune(whole, path, "phonemes", NONE, "made of")
    before, after = gguf.GGUFReader(whole), gguf.GGUFReader(path)
    kept = kept_ids(path)
    assert rows == len(kept)
    assert np.all(np.diff(kept) > 0)
    for was, now in zip(before.tensors, after.tensors, strict=True):
        changed = was.name in VOCABULARY_TENSORS
        assert np.array_equal(was.data[kept] if changed else was.data, now.data)
    new, old = (file.fields["tokenizer.ggml.tokens"] for file in (after, before))
    assert len(new.data) == rows
    for row in np.random.default_rng(0).integers(0, rows, 500).tolist():
        assert new.contents(row) == old.contents(int(kept[row]))
    assert after.fields["llama.vocab_size"].contents() == rows
    end = after.fields["tokenizer.ggml.eos_token_id"].contents()
    assert new.contents(end) == "<|SPEECH_GENERATION_END|>"
    assert after.fields["general.name"].contents() == before.fields["general.name"].contents()
    assert after.fields["vivavoce.source"].contents() == "made of"


def test_needed_rows_are_kept_whatever_they_are(
    tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    whole = tiny_model()
    tokens = read_header(whole).strings("tokenizer.ggml.tokens")
    assert tokens is not None
    dropped = tokens.index("Ġword0".encode())
    prune(whole, tmp_path / "a.gguf", "phonemes", NONE, "")
    prune(whole, tmp_path / "b.gguf", "phonemes", np.array([dropped], np.int32), "")
    assert dropped not in kept_ids(tmp_path / "a.gguf")
    assert dropped in kept_ids(tmp_path / "b.gguf")


def test_a_cut_off_file_is_refused(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny_model().read_bytes()[:-4096])
    with pytest.raises(ModelFileError, match="cut off"):
        prune(cut, tmp_path / "pruned.gguf", "phonemes", NONE, "")


@pytest.fixture
def model(tiny_model: Callable[..., Path], tmp_path: Path) -> Path:
    return Path(shutil.copyfile(tiny_model("air", "Q4_0"), tmp_path / "model.gguf"))


def test_a_copy_is_made_once(model: Path) -> None:
    first = pruned_copy(model, "phonemes", NONE)
    assert first == model.with_name("model.pruned.gguf")
    made = first.stat()
    assert pruned_copy(model, "phonemes", NONE) == first
    assert (first.stat().st_ino, first.stat().st_mtime_ns) == (made.st_ino, made.st_mtime_ns)
    assert sorted(path.name for path in model.parent.iterdir()) == [
        "model.gguf",
        "model.pruned.gguf",
    ]


def test_a_touched_model_keeps_its_copy_and_a_changed_one_does_not(model: Path) -> None:
    copy = pruned_copy(model, "phonemes", NONE)
    made = copy.stat().st_ino, copy.stat().st_mtime_ns
    os.utime(model, ns=(0, 0))
    assert pruned_copy(model, "phonemes", NONE) == copy
    assert (copy.stat().st_ino, copy.stat().st_mtime_ns) == made
    with model.open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(b"\x7f" * 4)
    pruned_copy(model, "phonemes", NONE)
    assert copy.read_bytes()[-100:-96] == b"\x7f" * 4


def test_another_layout_is_another_copy(model: Path) -> None:
    copy = pruned_copy(model, "phonemes", NONE)
    rows = len(kept_ids(copy))
    assert len(kept_ids(pruned_copy(model, "text", NONE))) > rows


def test_a_damaged_copy_is_made_anew(model: Path) -> None:
    copy = pruned_copy(model, "phonemes", NONE)
    whole = copy.read_bytes()
    copy.write_bytes(whole[:1000])
    assert pruned_copy(model, "phonemes", NONE).read_bytes() == whole


def test_a_cut_off_copy_is_made_anew(model: Path) -> None:
    copy = pruned_copy(model, "phonemes", NONE)
    whole = copy.read_bytes()
    copy.write_bytes(whole[:-500])
    assert pruned_copy(model, "phonemes", NONE).read_bytes() == whole


def test_copies_go_to_a_folder_of_their_own(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "cache"
    assert pruned_copy(model, "phonemes", NONE, folder).parent == folder
    assert not model.with_name("model.pruned.gguf").exists()


def test_where_nothing_can_be_written_the_model_itself_serves(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "a file"
    folder.write_text("in the way")
    assert pruned_copy(model, "phonemes", NONE, folder) == model
    assert "cannot be written" in caplog.text
