"""Checkpoint folders are read strictly, piece by piece, and errors say what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engines.neutts.torch_lm.speaking import CPU, Bare, prompt_ids
from vivavoce.engines.neutts import torch_checkpoint as weights_module
from vivavoce.engines.neutts.backbone import SPEECH_CODES
from vivavoce.engines.neutts.torch_checkpoint import Choices, load_model, open_weights
from vivavoce.errors import ModelFileError

TinyLm = Callable[..., Path]
Tensors = dict[str, torch.Tensor]
NORM = "model.norm.weight"
CHOICES = Choices(304, 305, SPEECH_CODES)


@pytest.fixture
def copy(tiny_lm: TinyLm, tmp_path: Path) -> Callable[..., Path]:
    """Copies a checkpoint and lets its tensors be changed."""

    def make(change: Callable[[Tensors], None] | None = None, **more: object) -> Path:
        folder = tmp_path / "copy"
        shutil.copytree(tiny_lm("neutts-air", **more), folder)
        if change is not None:
            tensors = load_file(folder / "model.safetensors")
            change(tensors)
            save_file(tensors, folder / "model.safetensors")
        return folder

    return make


def refusal(folder: Path) -> str:
    """What is said of a folder that cannot be used."""
    with pytest.raises(ModelFileError) as caught:
        open_weights(folder)
    return caught.value.message


def set_key(folder: Path, key: str, value: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), key: value}), "utf-8")


def test_missing_tensors_are_named(copy: Callable[..., Path]) -> None:
    told = refusal(copy(lambda tensors: tensors.pop(NORM)))
    assert f"missing {NORM}" in told


def test_unexpected_tensors_are_named(copy: Callable[..., Path]) -> None:
    told = refusal(copy(lambda tensors: tensors.update(extra=torch.zeros(2))))
    assert "unexpected extra" in told


def test_wrong_shapes_and_dtypes_are_named(copy: Callable[..., Path]) -> None:
    def change(tensors: Tensors) -> None:
        tensors[NORM] = torch.ones(3)
        tensors["model.layers.0.mlp.up_proj.weight"] = torch.zeros(128, 64, dtype=torch.int8)

    told = refusal(copy(change))
    assert f"{NORM} is [3], not [64]" in told
    assert "up_proj.weight is I8" in told


def test_a_truncated_file(copy: Callable[..., Path]) -> None:
    folder = copy()
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    assert "truncated" in refusal(folder)


def test_a_file_that_shrinks_after_it_was_checked(copy: Callable[..., Path]) -> None:
    folder = copy()
    opened = open_weights(folder)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ModelFileError):
        load_model(opened, CHOICES, dtype=torch.float32, device=CPU)


def test_no_folder_and_no_file(tmp_path: Path, copy: Callable[..., Path]) -> None:
    assert "no folder" in refusal(tmp_path / "nowhere")
    folder = copy()
    (folder / "model.safetensors").unlink()
    assert "model.safetensors" in refusal(folder)


def test_a_head_that_is_said_to_be_separate(copy: Callable[..., Path]) -> None:
    folder = copy()
    set_key(folder, "tie_word_embeddings", False)
    assert "lm_head.weight is missing" in refusal(folder)


def test_a_tied_head_stored_once_more_is_not_read(
    copy: Callable[..., Path], tiny_lm: TinyLm
) -> None:
    def change(tensors: Tensors) -> None:
        tensors["lm_head.weight"] = torch.full_like(tensors["model.embed_tokens.weight"], 9.0)

    plain, stored = Bare.of(tiny_lm("neutts-air")), Bare.of(copy(change))
    ids = prompt_ids(plain.vocabulary)
    assert torch.equal(plain.scores(ids), stored.scores(ids))


def test_weights_in_several_files(copy: Callable[..., Path]) -> None:
    folder = copy()
    whole = Bare.of(folder)
    ids = prompt_ids(whole.vocabulary)
    expected = whole.scores(ids)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    placed = {name: f"part-{number % 2}.safetensors" for number, name in enumerate(names)}
    for file in set(placed.values()):
        save_file({name: tensors[name] for name in names if placed[name] == file}, folder / file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": placed}), "utf-8")
    assert torch.equal(Bare.of(folder).scores(ids), expected)
    index.write_text(json.dumps({"weight_map": {"a": "../elsewhere"}}), "utf-8")
    assert "no plain name" in refusal(folder)


@pytest.mark.parametrize("stored", ["BF16", "F16"])
def test_what_is_stored_narrow_is_computed_wide(tiny_lm: TinyLm, stored: str) -> None:
    """The table stays as it is stored; its rows are widened without loss."""
    folder = tiny_lm("neutts-air", dtype=stored)
    opened = open_weights(folder)
    model = load_model(opened, CHOICES, dtype=torch.float32, device=CPU).model
    assert model.embed_tokens.weight.dtype == {"BF16": torch.bfloat16, "F16": torch.float16}[stored]
    assert model.head.weight.dtype == torch.float32
    table = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    assert torch.equal(model.head.weight, table[304 : 304 + CHOICES.size].float())


def test_the_head_shares_the_tables_memory_where_it_can(tiny_lm: TinyLm) -> None:
    opened = open_weights(tiny_lm("neutts-nano"))
    loaded = load_model(opened, CHOICES, dtype=torch.float32, device=CPU)
    table, head = loaded.model.embed_tokens.weight, loaded.model.head.weight
    assert head.data_ptr() == table[304].data_ptr()
    parameters = sum(p.numel() for n, p in loaded.model.named_parameters() if n != "head.weight")
    assert loaded.weights_bytes == 4 * parameters


def test_a_head_apart_from_its_end(tiny_lm: TinyLm) -> None:
    """2E has nine tokens between END and the first code."""
    folder = tiny_lm("neutts-2e")
    bare = Bare.of(folder)
    table = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    head = bare.runner._model.head.weight
    assert torch.equal(head[0], table[bare.vocabulary.end_id])
    assert torch.equal(head[1:], table[bare.vocabulary.first_speech_id :][:SPEECH_CODES])


def test_reading_holds_small_blocks(tiny_lm: TinyLm, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks: list[int] = []
    read = weights_module._block

    def spy(stream: object, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        block = read(stream, shape, dtype)  # type: ignore[arg-type]
        blocks.append(block.nbytes)
        return block

    monkeypatch.setattr(weights_module, "BLOCK_BYTES", 100_000)
    monkeypatch.setattr(weights_module, "_block", spy)
    opened = open_weights(tiny_lm("neutts-air"))
    load_model(opened, CHOICES, dtype=torch.float32, device=CPU)
    assert max(blocks) <= 100_000
    stored = sum(file.entries[name].size_bytes for name, file in opened.files.items())
    assert sum(blocks) == stored, "every tensor once"


def test_a_tokenizer_with_more_tokens_than_the_model(tiny_lm: TinyLm) -> None:
    opened = open_weights(tiny_lm("neutts-air"))
    with pytest.raises(ModelFileError, match="more tokens"):
        load_model(opened, Choices(304, 400, SPEECH_CODES), dtype=torch.float32, device=CPU)
