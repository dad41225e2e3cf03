"""Token ids out of tokenizer.json."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.neutts.torch_lm.speaking import NAMES, known_vocabulary
from vivavoce.engines.neutts.torch_config import TorchVocabulary, load_vocabulary
from vivavoce.errors import InputError, ModelFileError
from vivavoce.testing.random_lm import RandomLm

TinyLm = Callable[..., Path]
ARCHITECTURES = {"neutts-air": "qwen2", "neutts-nano": "llama", "neutts-2e": "qwen3"}


def vocabulary(tiny_lm: TinyLm, name: str = "neutts-air") -> TorchVocabulary:
    return known_vocabulary(tiny_lm(name), ARCHITECTURES[name])


@pytest.mark.parametrize("name", NAMES)
def test_ids_are_the_tokens_places(tiny_lm: TinyLm, name: str) -> None:
    tokens = RandomLm(name, small=True).tokens()
    found = vocabulary(tiny_lm, name)
    assert found.family.name == name.removeprefix("neutts-")
    assert (found.end_id, found.first_speech_id) == (tokens.end, tokens.first_speech)
    assert found.speech_ids(np.array([0, 65_535], np.int32)) == (
        tokens.first_speech,
        tokens.first_speech + 65_535,
    )
    names = [tokens.names[token] for token in found.header_ids]
    assert (names[0] == "<|begin_of_text|>") == (name == "neutts-nano")
    assert names[-1] == "<|TEXT_PROMPT_START|>"
    assert tokens.names[found.middle_ids[0]] == "<|TEXT_PROMPT_END|>"
    assert tokens.names[found.middle_ids[-1]] == "<|SPEECH_GENERATION_START|>"


def test_emotions_by_name(tiny_lm: TinyLm) -> None:
    found = vocabulary(tiny_lm, "neutts-2e")
    assert found.token_id("<|HAPPY|>") == found.added["<|HAPPY|>"]
    assert found.token_id("<|BORED|>") is None
    assert vocabulary(tiny_lm).token_id("<|HAPPY|>") is None


@pytest.mark.parametrize("name", ["<|speech_5|>", "<|SPEECH_GENERATION_END|>", "<|im_end|>"])
def test_names_of_control_tokens_in_a_text_are_text(tiny_lm: TinyLm, name: str) -> None:
    found = vocabulary(tiny_lm)
    ids = found.tokenize(f"a {name} b")
    assert max(ids) < 256 + 40
    assert found.added[name] not in ids


def test_no_text_has_no_ids(tiny_lm: TinyLm) -> None:
    assert vocabulary(tiny_lm, "neutts-nano").tokenize("") == ()


@pytest.mark.parametrize("codes", [[-1], [65_536], [5, 70_000]])
def test_codes_out_of_range(tiny_lm: TinyLm, codes: list[int]) -> None:
    with pytest.raises(InputError):
        vocabulary(tiny_lm).speech_ids(codes)
    assert vocabulary(tiny_lm).speech_ids([]) == ()


def without_end(stored: dict[str, Any]) -> None:
    stored["added_tokens"] = [
        token for token in stored["added_tokens"] if "GENERATION_END" not in token["content"]
    ]


def with_a_gap(stored: dict[str, Any]) -> None:
    for token in stored["added_tokens"]:
        if token["content"] == "<|speech_4095|>":
            token["id"] += 100_000


def without_a_name(stored: dict[str, Any]) -> None:
    del stored["added_tokens"][3]["content"]


def without_a_model(stored: dict[str, Any]) -> None:
    del stored["model"]


def of_another_kind(stored: dict[str, Any]) -> None:
    stored["model"] = {"type": "Nothing"}


@pytest.mark.parametrize(
    "change", [without_end, with_a_gap, without_a_name, without_a_model, of_another_kind]
)
def test_tokenizers_that_cannot_be_used(
    tiny_lm: TinyLm, tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    stored = json.loads((tiny_lm("neutts-air") / "tokenizer.json").read_text("utf-8"))
    change(stored)
    (tmp_path / "tokenizer.json").write_text(json.dumps(stored), "utf-8")
    with pytest.raises(ModelFileError):
        load_vocabulary(tmp_path, "qwen2")


def test_no_tokenizer_and_a_damaged_one(tmp_path: Path, tiny_lm: TinyLm) -> None:
    with pytest.raises(ModelFileError, match="cannot be read"):
        load_vocabulary(tmp_path, "qwen2")
    shutil.copy(tiny_lm("neutts-air") / "tokenizer.json", tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_text(path.read_text("utf-8")[:1000], "utf-8")
    with pytest.raises(ModelFileError, match="JSON"):
        load_vocabulary(tmp_path, "qwen2")


def test_an_architecture_nobody_knows(tiny_lm: TinyLm) -> None:
    with pytest.raises(ModelFileError, match="gemma"):
        load_vocabulary(tiny_lm("neutts-air"), "gemma")
