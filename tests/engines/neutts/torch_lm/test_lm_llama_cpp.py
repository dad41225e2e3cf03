"""The same random weights in llama.cpp, in F32 with keys and values in F32, say the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engines.neutts.torch_lm.as_gguf import write_gguf
from engines.neutts.torch_lm.speaking import NAMES, Bare, prompt_ids
from vivavoce.engines.neutts.backbone import TokenSampling
from vivavoce.engines.neutts.torch_config import TorchVocabulary
from vivavoce.testing.random_lm import RandomLm

llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

TOKENS = 64
GGML_F32 = 0


@pytest.fixture(params=NAMES)
def pair(
    request: pytest.FixtureRequest, tiny_lm: Callable[..., Path], tmp_path: Path
) -> Iterator[tuple[Bare, Any]]:
    """A model in PyTorch, and in llama.cpp."""
    wanted = RandomLm(request.param, small=True, dtype="F32", end_every=0)
    folder = tiny_lm(request.param)
    path = write_gguf(wanted, folder, tmp_path / "model.gguf")
    llama = llama_cpp.Llama(
        str(path),
        n_ctx=256,
        n_batch=128,
        n_threads=1,
        n_threads_batch=1,
        type_k=GGML_F32,
        type_v=GGML_F32,
        verbose=False,
    )
    with closing(llama):
        yield Bare.of(folder), llama


def llama_scores(llama: Any, vocabulary: TorchVocabulary) -> torch.Tensor:
    """What llama.cpp gives END and the speech codes after its last token."""
    pointer = llama_cpp.llama_get_logits_ith(llama.ctx, -1)
    logits = np.ctypeslib.as_array(pointer, (llama.n_vocab(),))
    first = vocabulary.first_speech_id
    kept = np.concatenate((logits[vocabulary.end_id, None], logits[first : first + 65_536]))
    return torch.from_numpy(kept)


def test_greedy_tokens_and_scores(pair: tuple[Bare, Any]) -> None:
    bare, llama = pair
    ids = prompt_ids(bare.vocabulary)
    bare.begin(ids, TokenSampling(greedy=True, min_tokens=TOKENS))
    llama.eval(list(ids))
    said: list[tuple[int, int]] = []
    for step in range(TOKENS):
        drawn = int(bare.runner.step(1, len(ids) + step, wide=False)[0])
        theirs = llama_scores(llama, bare.vocabulary)
        near = torch.cosine_similarity(bare.runner.state.scores[0], theirs, 0)
        assert float(near) >= 0.9999
        said.append((drawn, 1 + int(theirs[1:].argmax())))
        llama.eval([bare.vocabulary.first_speech_id + drawn - 1])
    assert [ours for ours, _ in said] == [theirs for _, theirs in said]
    assert len({ours for ours, _ in said}) > 5, "a test of more than one token"


def test_token_ids(pair: tuple[Bare, Any]) -> None:
    """The tokenizers agree on what a prompt is made of."""
    bare, llama = pair
    vocabulary = bare.vocabulary
    text = "maɪ nˈeɪm ɪz ˈændi, abdef — 25."
    theirs = llama.tokenize(text.encode(), add_bos=False, special=False)
    assert vocabulary.tokenize(text) == tuple(theirs)
    family = vocabulary.family
    bos = family.architecture == "llama"
    header = llama.tokenize(family.header.encode(), add_bos=bos, special=True)
    assert vocabulary.header_ids == tuple(header)
    middle = llama.tokenize(family.middle.encode(), add_bos=False, special=True)
    assert vocabulary.middle_ids == tuple(middle)
