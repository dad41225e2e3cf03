"""The decoders compute what the published classes compute."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from engines.neutts.torch_lm.speaking import NAMES, Bare, prompt_ids
from engines.neutts.torch_lm.written_out import all_logits
from vivavoce.runtime.nn.decoder import ATTENTION, sdpa

TinyLm = Callable[..., Path]
GOLDEN = json.loads((Path(__file__).parent / "transformers_logits.json").read_text("utf-8"))


def kept(logits: np.ndarray, bare: Bare) -> np.ndarray:
    """END's logit and the speech codes'."""
    vocabulary = bare.vocabulary
    first = vocabulary.first_speech_id
    return np.concatenate((logits[vocabulary.end_id, None], logits[first : first + 65_536]))


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("name", NAMES)
def test_scores_are_those_of_the_published_arithmetic(
    tiny_lm: TinyLm, name: str, tied: bool
) -> None:
    folder = tiny_lm(name, tied=tied)
    bare = Bare.of(folder)
    ids = prompt_ids(bare.vocabulary)
    expected = kept(all_logits(folder, ids)[-1], bare)
    torch.testing.assert_close(
        bare.scores(ids).double(), torch.from_numpy(expected), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("name", NAMES)
def test_logits_that_transformers_gave(tiny_lm: TinyLm, name: str) -> None:
    """``transformers_logits.json`` was made by version 4.57 from the same folders."""
    golden, folder = GOLDEN[name], tiny_lm(name)
    bare = Bare.of(folder)
    ids = prompt_ids(bare.vocabulary)
    assert list(ids) == golden["ids"]
    scores = bare.scores(ids)
    some = scores[torch.tensor(golden["choices"])]
    torch.testing.assert_close(some, torch.tensor(golden["logits"]), rtol=1e-4, atol=1e-4)
    assert int(scores.argmax()) == golden["largest"]


@pytest.mark.parametrize("name", NAMES)
def test_a_prompt_in_slices_is_the_whole_prompt(tiny_lm: TinyLm, name: str) -> None:
    folder = tiny_lm(name)
    whole = Bare.of(folder)
    ids = prompt_ids(whole.vocabulary, codes=60)
    for size in (7, 64):
        sliced = Bare.of(folder, slice_tokens=size)
        torch.testing.assert_close(sliced.scores(ids), whole.scores(ids), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["matmul", "split"])
@pytest.mark.parametrize("span", [128, 256, 200])
def test_ways_of_attending_agree(kind: str, span: int) -> None:
    torch.manual_seed(0)
    query, keys, values = (torch.randn(3, 2, size, 16) for size in (7, span, span))
    mask = torch.arange(span) <= torch.tensor([0, span // 2, span - 1])[:, None, None, None]
    expected = sdpa(query, keys, values, mask)
    torch.testing.assert_close(
        ATTENTION[kind](query, keys, values, mask), expected, rtol=1e-5, atol=1e-5
    )
    everywhere = ATTENTION[kind](query, keys, values, None)
    torch.testing.assert_close(everywhere, sdpa(query, keys, values, None), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("attention", ["matmul", "split"])
def test_another_attention_gives_the_same_scores(tiny_lm: TinyLm, attention: str) -> None:
    bare = Bare.of(tiny_lm("neutts-air"))
    ids = prompt_ids(bare.vocabulary)
    expected = bare.scores(ids)
    bare.runner._model.set_attention(ATTENTION[attention])
    torch.testing.assert_close(bare.scores(ids), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near(tiny_lm: TinyLm, dtype: torch.dtype) -> None:
    folder = tiny_lm("neutts-nano")
    exact, half = Bare.of(folder), Bare.of(folder, dtype=dtype)
    ids = prompt_ids(exact.vocabulary)
    near = torch.cosine_similarity(exact.scores(ids), half.scores(ids), 0)
    assert 0.99 < float(near) < 1.0
