"""llama.cpp's context: batches, shared beginnings, and the high-level interface's answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from vivavoce.engines.neutts.backbone import Prompt, TokenSampling
from vivavoce.engines.neutts.gguf.backbone import GgufBackbone, GgufSettings
from vivavoce.engines.neutts.gguf.kept_tokens import Ids
from vivavoce.engines.neutts.gguf.llama_context import ContextShape, LlamaContext
from vivavoce.engines.neutts.gguf.llama_model import LlamaModel
from vivavoce.engines.neutts.gguf.threads import Threads

LEAST = 0.99999
"""How alike scores must be: their cosine."""

LEAST_ROUNDED = 0.999
"""The same where weights are quantised and keys and values are float16. Who else is in the context
decides where a row's cells lie, and so the order in which attention adds up. With float16 that is a
last bit, which the rounding to 8 bits before a quantised product can make a step of 1/127."""

KINDS = [
    ("nano", "F32", False), ("nano", "F32", True), ("nano", "Q4_0", True),
    ("air", "Q4_0", False), ("air", "Q8_0", True), ("2e", "F32", True), ("2e", "Q8_0", False),
]  # fmt: skip


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: "-".join(map(str, kind)))
def kind(request: pytest.FixtureRequest) -> tuple[str, str, bool]:
    """A model, its quantisation, and whether keys and values are float32."""
    name, quantisation, exact = request.param
    return name, quantisation, exact


@pytest.fixture
def least(kind: tuple[str, str, bool]) -> float:
    """How alike scores must be."""
    rounded = kind[1].startswith("Q") and not kind[2]
    return LEAST_ROUNDED if rounded else LEAST


@pytest.fixture(scope="module")
def model(kind: tuple[str, str, bool], tiny_model: Callable[..., Path]) -> Iterator[LlamaModel]:
    opened = LlamaModel(tiny_model(*kind[:2]))
    yield opened
    opened.close()


@pytest.fixture
def context(model: LlamaModel, kind: tuple[str, str, bool]) -> Iterator[LlamaContext]:
    shape = ContextShape(cells=1024, sequences=6, batch_tokens=300, exact=kind[2])
    opened = LlamaContext(model, shape)
    opened.set_threads(1)
    yield opened
    opened.close()


def prompts(count: int) -> list[Ids]:
    rng = np.random.default_rng(count)
    return [rng.integers(0, 60_000, 20 + 31 * index).astype(np.int32) for index in range(count)]


def evaluate(context: LlamaContext, parts: list[tuple[int, int, Ids]]) -> list[np.ndarray]:
    """Evaluate (sequence, position, tokens) at once; the scores after each."""
    context.batch.clear()
    places = [context.batch.add(ids, at, sequence, scores=True) for sequence, at, ids in parts]
    context.decode()
    return [context.scores(place).copy() for place in places]


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_together_is_as_alone(context: LlamaContext, least: float) -> None:
    asked = prompts(4)
    alone = []
    for ids in asked:
        alone.append(evaluate(context, [(0, 0, ids)])[0])
        context.clear(0)
    together = evaluate(context, [(row, 0, ids) for row, ids in enumerate(asked)])
    for one, other in zip(alone, together, strict=True):
        assert cosine(one, other) >= least
        assert least < LEAST or one.argmax() == other.argmax()
    following = np.array([17], np.int32)
    steps = [(row, len(ids), following) for row, ids in enumerate(asked)]
    together = evaluate(context, steps)
    for row in range(4):
        context.clear(row)
    for ids, other in zip(asked, together, strict=True):
        whole = evaluate(context, [(5, 0, np.concatenate((ids, following)))])[0]
        context.clear(5)
        assert cosine(whole, other) >= least


@pytest.mark.parametrize("slices", [[64, 64, 16], [1, 127, 16], [143, 1], [16] * 9])
def test_a_prompt_in_slices_is_as_whole(
    context: LlamaContext, least: float, slices: list[int]
) -> None:
    ids = np.random.default_rng(3).integers(0, 60_000, 144).astype(np.int32)
    whole = evaluate(context, [(0, 0, ids)])[0]
    done, scores = 0, whole
    for size in slices:
        scores = evaluate(context, [(1, done, ids[done : done + size])])[0]
        done += size
    assert done == len(ids)
    assert cosine(whole, scores) >= least
    assert least < LEAST or whole.argmax() == scores.argmax()


def test_a_forked_beginning_is_as_ones_own(context: LlamaContext, least: float) -> None:
    ids = np.random.default_rng(4).integers(0, 60_000, 100).astype(np.int32)
    whole = evaluate(context, [(0, 0, ids)])[0]
    context.fork(0, 3, 60)
    context.clear(0)
    assert (context.length(0), context.length(3)) == (0, 60)
    assert cosine(evaluate(context, [(3, 60, ids[60:])])[0], whole) >= least
    context.clear(3)
    assert context.length(3) == 0


def test_cleared_cells_are_used_again(context: LlamaContext) -> None:
    ids = np.zeros(300, np.int32)
    for round_number in range(10):
        evaluate(context, [(round_number % 6, 0, ids)])
        context.clear(round_number % 6)


SPOKEN = re.compile(r"<\|speech_(\d+)\|>")
SPEECH = re.compile(rf"(?:{SPOKEN.pattern})*")


@pytest.mark.parametrize("name", ["nano", "air", "2e"])
@pytest.mark.parametrize("quantisation", ["F32", "Q8_0", "Q4_0"])
def test_scores_are_those_of_the_high_level_interface(
    tiny_model: Callable[..., Path], name: str, quantisation: str
) -> None:
    from llama_cpp import Llama

    path = tiny_model(name, quantisation)
    ids = np.random.default_rng(5).integers(0, 60_000, 90).astype(np.int32)
    theirs = Llama(str(path), n_ctx=512, n_threads=1, n_threads_batch=1, verbose=False)
    model = LlamaModel(path)
    context = LlamaContext(model, ContextShape(cells=512, sequences=1, batch_tokens=512))
    context.set_threads(1)
    for start, end in ((0, 80), (80, 81), (81, 82), (82, 90)):
        theirs.eval(ids[start:end].tolist())
        pointer = theirs._ctx.get_logits_ith(-1)
        wanted = np.ctypeslib.as_array(pointer, (model.rows,)).copy()
        (mine,) = evaluate(context, [(0, start, ids[start:end])])
        assert cosine(mine, wanted) >= LEAST
        assert mine.argmax() == wanted.argmax()
    context.close()
    model.close()
    theirs.close()


@pytest.mark.parametrize(
    ("name", "quantisation"), [("nano", "F32"), ("air", "F32"), ("nano", "Q4_0"), ("air", "Q8_0")]
)
def test_greedy_codes_are_those_of_create_completion(
    tiny_model: Callable[..., Path], name: str, quantisation: str
) -> None:
    """llama-cpp-python's own loop has no mask, so that it may leave speech; few codes do here."""
    from llama_cpp import Llama

    path = tiny_model(name, quantisation)
    mine = GgufBackbone(path, GgufSettings(context_tokens=512, threads=Threads(1, 1), prune=False))
    mine.load()
    words = mine.vocabulary
    ids = (*words.header_ids, *words.tokenize("abd ˈæ."), *words.middle_ids)
    ids += words.speech_ids(list(range(1, 60)))
    mine.admit(Prompt(ids), TokenSampling(greedy=True), 60)
    codes: list[int] = []
    for _ in range(80):
        codes += [code for piece in mine.step() for code in piece.codes.tolist()]
    mine.unload()
    theirs = Llama(
        str(path), n_ctx=512, n_threads=1, n_threads_batch=1, flash_attn=True, verbose=False
    )
    answer = theirs.create_completion(list(ids), max_tokens=60, temperature=0.0)
    theirs.close()
    said = SPEECH.match(answer["choices"][0]["text"])
    assert said is not None
    spoken = [int(code) for code in SPOKEN.findall(said[0])]
    assert len(spoken) >= 10
    assert codes[: len(spoken)] == spoken
