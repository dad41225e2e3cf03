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
from vivavoce.errors import EngineError

LEAST = 0.99999
"""How alike scores must be where the order of sums is another one: their cosine."""

KINDS = [
    ("nano", "F32", False), ("nano", "F32", True), ("nano", "Q4_0", True), ("nano", "Q4_0", False),
    ("air", "Q4_0", False), ("air", "Q8_0", True), ("2e", "F32", True), ("2e", "Q8_0", False),
]  # fmt: skip


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: "-".join(map(str, kind)))
def kind(request: pytest.FixtureRequest) -> tuple[str, str, bool]:
    """A model, its quantization, and whether keys and values are float32."""
    name, quantization, exact = request.param
    return name, quantization, exact


@pytest.fixture(scope="module")
def model(kind: tuple[str, str, bool], tiny_model: Callable[..., Path]) -> Iterator[LlamaModel]:
    opened = LlamaModel(tiny_model(*kind[:2]))
    yield opened
    opened.close()


@pytest.fixture
def context(model: LlamaModel, kind: tuple[str, str, bool]) -> Iterator[LlamaContext]:
    shape = ContextShape(tokens=512, sequences=6, batch_tokens=300, exact=kind[2])
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


def read(
    context: LlamaContext, sequence: int, ids: Ids, sizes: list[int], start: int = 0
) -> np.ndarray:
    """Evaluate a prompt in parts; the scores after the last."""
    scores = []
    for size in sizes:
        scores = evaluate(context, [(sequence, start, ids[start : start + size])])
        start += size
    assert start == len(ids)
    return scores[0]


def test_together_is_as_alone(context: LlamaContext, kind: tuple[str, str, bool]) -> None:
    """To the bit where weights are quantized; floats are added up in another order for several."""
    asked, following = prompts(4), np.arange(17, 25, dtype=np.int32)

    def step(rows: list[int], time: int) -> list[np.ndarray]:
        context.set_threads(1 + time % 2)
        here = following[time : time + 1]
        return evaluate(context, [(row, len(asked[row]) + time, here) for row in rows])

    alone = []
    for row, ids in enumerate(asked):
        read(context, row, ids, [len(ids)])
        alone.append([step([row], time)[0] for time in range(len(following))])
        context.clear(row)
    for row, ids in reversed(list(enumerate(asked))):
        read(context, row, ids, [len(ids)])
    for time in range(len(following)):
        for row, scores in enumerate(step([0, 1, 2, 3], time)):
            assert cosine(scores, alone[row][time]) >= LEAST
            assert kind[1] == "F32" or np.array_equal(scores, alone[row][time])


@pytest.mark.parametrize(
    "sizes", [[64, 64, 16], [2, 126, 16], [141, 3], [16] * 9, [3] * 48, [5, 7, 11, 13, 17, 41, 50]]
)
def test_a_prompt_in_slices_is_as_whole_to_the_bit(context: LlamaContext, sizes: list[int]) -> None:
    ids = np.random.default_rng(3).integers(0, 60_000, 144).astype(np.int32)
    whole, following = read(context, 0, ids, [144]), np.array([17], np.int32)
    (after,) = evaluate(context, [(0, 144, following)])
    assert np.array_equal(read(context, 1, ids, sizes), whole)
    assert np.array_equal(evaluate(context, [(1, 144, following)])[0], after)


def test_a_single_token_is_nearly_as_in_a_slice(
    context: LlamaContext, kind: tuple[str, str, bool]
) -> None:
    ids = np.random.default_rng(3).integers(0, 60_000, 144).astype(np.int32)
    rounded = kind[1].startswith("Q")
    nearly = cosine(read(context, 0, ids, [144]), read(context, 1, ids, [143, 1]))
    assert nearly >= (0.999 if rounded else LEAST)


def test_a_beginning_from_elsewhere_is_as_ones_own(context: LlamaContext) -> None:
    ids = np.random.default_rng(4).integers(0, 60_000, 100).astype(np.int32)
    whole = read(context, 0, ids, [60, 40])
    read(context, 1, ids[:60], [60])
    state = context.save(1)
    read(context, 3, ids, [100])
    for sequence in (3, 5, 1):
        context.restore(sequence, state)
        assert context.length(sequence) == 60
        assert np.array_equal(read(context, sequence, ids, [40], 60), whole)
    context.move(5, 2)
    assert (context.length(5), context.length(2)) == (0, 100)
    following = np.array([17], np.int32)
    (one,), (other,) = (evaluate(context, [(row, 100, following)]) for row in (0, 2))
    assert np.array_equal(one, other)


def test_a_state_of_another_context_is_refused(context: LlamaContext) -> None:
    context.clear(0)
    evaluate(context, [(0, 0, np.arange(20, dtype=np.int32))])
    state = context.save(0)
    with pytest.raises(EngineError, match="restore"):
        context.restore(1, state[: state.size // 2])
    assert context.length(0) == 20


def test_cleared_cells_are_used_again(context: LlamaContext) -> None:
    ids = np.zeros(300, np.int32)
    for round_number in range(10):
        evaluate(context, [(round_number % 6, 0, ids)])
        context.clear(round_number % 6)


SPOKEN = re.compile(r"<\|speech_(\d+)\|>")
SPEECH = re.compile(rf"(?:{SPOKEN.pattern})*")


@pytest.mark.parametrize("name", ["nano", "air", "2e"])
@pytest.mark.parametrize("quantization", ["F32", "Q8_0", "Q4_0"])
def test_scores_are_those_of_the_high_level_interface(
    tiny_model: Callable[..., Path], name: str, quantization: str
) -> None:
    from llama_cpp import Llama

    path = tiny_model(name, quantization)
    ids = np.random.default_rng(5).integers(0, 60_000, 90).astype(np.int32)
    theirs = Llama(str(path), n_ctx=512, n_threads=1, n_threads_batch=1, verbose=False)
    model = LlamaModel(path)
    context = LlamaContext(model, ContextShape(tokens=512, sequences=1, batch_tokens=512))
    context.set_threads(1)
    for start, end in ((0, 80), (80, 81), (81, 82), (82, 90)):
        theirs.eval(ids[start:end].tolist())
        pointer = theirs._ctx.get_logits_ith(-1)
        wanted = np.ctypeslib.as_array(pointer, (model.rows,)).copy()
        (mine,) = evaluate(context, [(0, start, ids[start:end])])
        assert np.array_equal(mine, wanted)
    context.close()
    model.close()
    theirs.close()


@pytest.mark.parametrize(
    ("name", "quantization"), [("nano", "F32"), ("air", "F32"), ("nano", "Q4_0"), ("air", "Q8_0")]
)
def test_greedy_codes_are_those_of_create_completion(
    tiny_model: Callable[..., Path], name: str, quantization: str
) -> None:
    """llama-cpp-python's own loop has no mask, so that it may leave speech; few codes do here."""
    from llama_cpp import Llama

    path = tiny_model(name, quantization)
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
    theirs = Llama(str(path), n_ctx=512, n_threads=1, n_threads_batch=1, verbose=False)
    answer = theirs.create_completion(list(ids), max_tokens=60, temperature=0.0)
    theirs.close()
    said = SPEECH.match(answer["choices"][0]["text"])
    assert said is not None
    spoken = [int(code) for code in SPOKEN.findall(said[0])]
    assert len(spoken) >= 10
    assert codes[: len(spoken)] == spoken
