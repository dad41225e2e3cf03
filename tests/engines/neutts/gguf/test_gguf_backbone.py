"""Rows of a GGUF backbone: what they say, how they come and go."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.engines.neutts.backbone import (
    PREFILL_SLICE,
    Emitted,
    Prompt,
    TokenSampling,
)
from vivavoce.engines.neutts.gguf.backbone import (
    GgufBackbone,
    GgufSettings,
    even_slice,
)
from vivavoce.engines.neutts.gguf.llama_library import gpu_devices
from vivavoce.engines.neutts.gguf.threads import Threads
from vivavoce.errors import ContextOverflow, EngineError, InputError, ModelFileError, SettingsError
from vivavoce.testing.random_gguf import make_random_gguf
from vivavoce.types import WeightsFormat

ONE = Threads(1, 1)
GREEDY = TokenSampling(greedy=True)


def prompt_of(
    backbone: GgufBackbone, codes: Sequence[int], text: str = "abd ˈæ.", *, template: bool = True
) -> Prompt:
    words = backbone.vocabulary
    shared = (*words.header_ids, *words.tokenize("ʃˈiː"))
    ids = (*shared, *words.tokenize(" " + text), *words.middle_ids, *words.speech_ids(codes))
    return Prompt(ids, len(shared) if template else 0)


def drain(backbone: GgufBackbone, steps: int = 2000) -> dict[int, list[Emitted]]:
    """Step until all rows are done."""
    said: dict[int, list[Emitted]] = {}
    for _ in range(steps):
        emitted = backbone.step()
        for piece in emitted:
            said.setdefault(piece.row, []).append(piece)
        if not emitted and not len(backbone._open.rows):
            return said
    raise AssertionError("it does not end")


def codes_of(pieces: Sequence[Emitted]) -> list[int]:
    return [code for piece in pieces for code in piece.codes.tolist()]


def speak(backbone: GgufBackbone, prompt: Prompt, sampling: TokenSampling, most: int) -> list[int]:
    row = backbone.admit(prompt, sampling, most)
    return codes_of(drain(backbone)[row])


def held(backbone: GgufBackbone) -> list[int]:
    """How many tokens each row holds in the context."""
    context, found = backbone._open.context, [0] * backbone.capacity
    for row in backbone._open.rows:
        found[row.number] = context.length(row.sequence)
    assert sum(found) == sum(context.length(each) for each in range(backbone.capacity))
    return found


def test_a_row_ends_at_its_limit(backbone: GgufBackbone) -> None:
    backbone.admit(prompt_of(backbone, range(1, 40)), TokenSampling(seed=1), 12)
    (pieces,) = drain(backbone).values()
    assert [piece.last for piece in pieces] == [False] * 11 + [True]
    assert pieces[-1].reason == "length"
    assert all(piece.codes.dtype == np.int32 for piece in pieces)
    assert all(0 <= code < 65_536 for code in codes_of(pieces))
    assert held(backbone) == [0] * 4


def test_a_row_ends_where_its_context_is_full(backbone: GgufBackbone) -> None:
    prompt = prompt_of(backbone, [1] * 300)
    room = backbone.context_tokens - len(prompt.ids)
    sampling = TokenSampling(seed=2, min_tokens=1000)
    row = backbone.admit(prompt, sampling, 5000)
    pieces = drain(backbone)[row]
    assert (len(codes_of(pieces)), pieces[-1].reason) == (room, "length")


def test_a_prompt_that_fills_the_context_is_refused(backbone: GgufBackbone) -> None:
    text = len(prompt_of(backbone, []).ids)
    most = backbone.context_tokens - text
    with pytest.raises(ContextOverflow) as caught:
        backbone.admit(prompt_of(backbone, [1] * most), GREEDY, 10)
    assert caught.value.prompt_tokens == backbone.context_tokens
    assert held(backbone) == [0] * 4
    sampling = TokenSampling(greedy=True, min_tokens=5)
    assert len(speak(backbone, prompt_of(backbone, [1] * (most - 1)), sampling, 10)) == 1


def test_end_first_says_nothing_and_stops(backbone: GgufBackbone) -> None:
    backbone.admit(prompt_of(backbone, [5, 97]), TokenSampling(seed=3), 50)
    (pieces,) = drain(backbone).values()
    assert [(len(piece.codes), piece.last, piece.reason) for piece in pieces] == [(0, True, "stop")]
    assert held(backbone) == [0] * 4


def test_end_first_waits_for_the_minimum(backbone: GgufBackbone) -> None:
    sampling = TokenSampling(seed=3, min_tokens=7)
    assert len(speak(backbone, prompt_of(backbone, [5, 97]), sampling, 50)) >= 7


def test_the_end_is_found_while_speaking(backbone: GgufBackbone) -> None:
    for seed in range(16):
        row = backbone.admit(prompt_of(backbone, [5]), TokenSampling(seed=seed), 300)
        pieces = drain(backbone)[row]
        if pieces[-1].reason == "stop":
            break
    assert pieces[-1].reason == "stop"
    assert len(pieces[-1].codes) == 0
    assert codes_of(pieces)[-1] % 97 == 0


@pytest.mark.parametrize("sampling", [GREEDY, TokenSampling(seed=9)])
def test_together_rows_say_what_they_say_alone(
    backbone: GgufBackbone, sampling: TokenSampling
) -> None:
    prompts = [prompt_of(backbone, range(k, 30 * k), "adˈæ " * k) for k in range(1, 5)]
    alone = [speak(backbone, prompt, sampling, 40) for prompt in prompts]
    rows = [backbone.admit(prompt, sampling, 40) for prompt in prompts]
    said = drain(backbone)
    assert [codes_of(said[row]) for row in rows] == alone
    assert len({tuple(codes) for codes in alone}) > 1


def come_and_go(backbone: GgufBackbone, rounds: int, most: int) -> int:
    """Rows join, are read in slices, leave and are cut off at random; each must say what another
    one with its prompt and seed said, and says alone. How many ended by themselves."""
    rng = np.random.default_rng(6)
    prompts = [prompt_of(backbone, range(k, k + 20 + 40 * k)) for k in range(1, 6)]
    samplings = [TokenSampling(seed=seed) for seed in range(3)]
    expected: dict[tuple[int, int], list[int]] = {}
    live: dict[int, tuple[tuple[int, int], list[int]]] = {}
    finished = 0
    for _ in range(rounds):
        if len(live) < 4 and rng.random() < 0.3:
            key = int(rng.integers(5)), int(rng.integers(3))
            live[backbone.admit(prompts[key[0]], samplings[key[1]], most)] = key, []
        if live and rng.random() < 0.05:
            row = int(rng.choice(list(live)))
            backbone.release(row)
            del live[row]
            assert held(backbone)[row] == 0
        slices = int(rng.integers(0, PREFILL_SLICE))
        for piece in backbone.step(codec_runs=rng.random() < 0.5, busy_slice=slices):
            key, codes = live[piece.row]
            codes += piece.codes.tolist()
            if piece.last:
                finished += 1
                assert expected.setdefault(key, codes) == codes
                del live[piece.row]
    for row in live:
        backbone.release(row)
    for (prompt, seed), codes in expected.items():
        assert speak(backbone, prompts[prompt], samplings[seed], most) == codes
    assert held(backbone) == [0] * 4
    return finished


def test_rows_that_come_and_go_at_random_do_not_disturb_others(backbone: GgufBackbone) -> None:
    assert come_and_go(backbone, 300, 25) >= 20


@pytest.mark.parametrize(("name", "quantization"), [("nano", "Q4_0"), ("air", "Q8_0")])
def test_nor_do_they_where_weights_are_quantized(
    tiny_model: Callable[..., Path], name: str, quantization: str
) -> None:
    settings = GgufSettings(context_tokens=512, capacity=4, threads=ONE)
    backbone = GgufBackbone(tiny_model(name, quantization), settings)
    backbone.load()
    assert come_and_go(backbone, 150, 12) >= 10
    backbone.unload()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nor_do_they_at_true_size(tmp_path: Path) -> None:
    """Where the last bit of a sum would turn up as 2e-4 in the scores, and soon in what is said."""
    path = tmp_path / "nano.gguf"
    make_random_gguf("neutts-nano", path)
    backbone = GgufBackbone(path, GgufSettings(context_tokens=512, threads=Threads(1, 2, 2)))
    backbone.load()
    sampling = TokenSampling(seed=5, min_tokens=20)
    prompts = [prompt_of(backbone, range(k, 30 * k), "adˈæ " * k) for k in (4, 1, 2)]
    alone = [speak(backbone, prompt, sampling, 20) for prompt in prompts]
    together: dict[int, list[int]] = {}
    for prompt in prompts:
        together[backbone.admit(prompt, sampling, 20)] = []
        for _ in range(7):
            for piece in backbone.step():
                together[piece.row] += piece.codes.tolist()
    for row, pieces in drain(backbone).items():
        together[row] += codes_of(pieces)
    assert list(together.values()) == alone
    backbone.unload()


def test_speaking_rows_go_on_while_a_prompt_is_read(backbone: GgufBackbone) -> None:
    first = backbone.admit(prompt_of(backbone, [3]), TokenSampling(seed=4, min_tokens=500), 300)
    while not backbone.step():
        pass
    second = backbone.admit(prompt_of(backbone, [2] * 300), GREEDY, 5)
    steps = 0
    while True:
        pieces = backbone.step()
        steps += 1
        assert first in {piece.row for piece in pieces}
        if second in {piece.row for piece in pieces}:
            break
    assert steps >= 300 // PREFILL_SLICE


@pytest.mark.parametrize(("busy_slice", "most"), [(0, 16), (7, 7), (40, 40), (5000, PREFILL_SLICE)])
def test_whoever_steps_says_how_much_is_read_while_others_speak(
    backbone: GgufBackbone, busy_slice: int, most: int
) -> None:
    speaking = TokenSampling(greedy=True, min_tokens=50)
    backbone.admit(prompt_of(backbone, range(5)), speaking, 40)
    while not backbone.step():
        pass
    waiting = prompt_of(backbone, range(180), template=False)
    backbone.admit(waiting, GREEDY, 5)
    before = backbone.reading
    assert before.left == len(waiting.ids)
    backbone.step(busy_slice=busy_slice)
    after = backbone.reading
    read = after.evaluated - before.evaluated
    assert read == before.left - after.left
    assert most / 2 < read <= most
    drain(backbone)
    assert backbone.reading.left == 0


@given(left=st.integers(2, 2048), most=st.integers(3, PREFILL_SLICE))
def test_slices_of_a_prompt_are_nearly_even_and_as_few_as_can_be(left: int, most: int) -> None:
    sizes, least = [], -(-left // most)
    while sum(sizes) < left:
        sizes.append(even_slice(left - sum(sizes), most))
    assert sum(sizes) == left
    assert len(sizes) == least
    assert min(sizes) >= 2 and max(sizes) <= most
    if most % 4 == 0 and least == 2 and left > most + 1:
        assert sizes[0] % 4 == 0


@pytest.mark.parametrize("codec_runs", [True, False])
def test_a_step_reads_a_bounded_slice(backbone: GgufBackbone, codec_runs: bool) -> None:
    prompt = prompt_of(backbone, [2] * 300)
    rows = [backbone.admit(prompt, GREEDY, 5) for _ in range(2)]
    seen = [held(backbone)]
    most = PREFILL_SLICE + backbone.capacity + prompt.shared_prefix
    for _ in range(4):
        backbone.step(codec_runs=codec_runs)
        seen.append(held(backbone))
        assert sum(seen[-1]) - sum(seen[-2]) <= most
    for row in rows:
        backbone.release(row)


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 20])
def test_release_in_any_state_leaves_nothing(backbone: GgufBackbone, steps: int) -> None:
    rows = [backbone.admit(prompt_of(backbone, [2] * 200), GREEDY, 500) for _ in range(4)]
    for _ in range(steps):
        backbone.step()
    backbone.release(rows[1])
    backbone.release(rows[1])
    assert held(backbone)[rows[1]] == 0
    for row in rows:
        backbone.release(row)
    backbone.release(99)
    assert held(backbone) == [0] * 4
    assert backbone.step() == []


def test_rows_are_limited_and_given_again(backbone: GgufBackbone) -> None:
    prompt = prompt_of(backbone, [1])
    assert [backbone.admit(prompt, GREEDY, 5) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(EngineError):
        backbone.admit(prompt, GREEDY, 5)
    backbone.release(2)
    assert backbone.admit(prompt, GREEDY, 5) == 2


def test_a_template_is_read_once(backbone: GgufBackbone) -> None:
    def first_step(prompt: Prompt) -> int:
        row = backbone.admit(prompt, GREEDY, 5)
        backbone.step()
        read = held(backbone)[row]
        backbone.release(row)
        return read

    words = backbone.vocabulary
    shared = (*words.header_ids, *words.tokenize("ŋˈʌ" * 40))
    one = Prompt((*shared, *words.middle_ids, *words.speech_ids([1] * 100)), len(shared))
    other = Prompt((*shared, *words.middle_ids, *words.speech_ids([2] * 100)), len(shared))
    fresh = [speak(backbone, Prompt(p.ids), GREEDY, 20) for p in (one, other)]
    row = backbone.admit(one, GREEDY, 1)
    drain(backbone)
    assert first_step(other) > PREFILL_SLICE
    assert [speak(backbone, p, GREEDY, 20) for p in (one, other)] == fresh
    assert row == 0


def test_more_voices_than_templates_still_speak(tiny_model: Callable[..., Path]) -> None:
    settings = GgufSettings(context_tokens=128, capacity=2, threads=ONE, template_tokens=200)
    backbone = GgufBackbone(tiny_model(), settings)
    backbone.load()
    words = backbone.vocabulary
    for voice in range(22):
        shared = (*words.header_ids, *words.speech_ids([voice] * 10))
        prompt = Prompt((*shared, *words.speech_ids([1] * 60)), len(shared))
        with_template = speak(backbone, prompt, GREEDY, 10)
        assert with_template == speak(backbone, Prompt(prompt.ids), GREEDY, 10)
    backbone.unload()


def test_a_token_that_was_pruned_is_spelt(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    path = Path(shutil.copyfile(tiny_model(), tmp_path / "model.gguf"))
    backbone = GgufBackbone(path, GgufSettings(context_tokens=128, capacity=1, threads=ONE))
    backbone.load()
    loaded, words = backbone._open, backbone.vocabulary
    assert backbone.evaluated_file.name == "model.pruned.gguf"
    (long,) = words.tokenize("abdefh")
    parts = loaded.map.rows([long])
    names = [words.name(int(loaded.map._kept[row])) for row in parts]
    assert names == ["abde", "f", "h"]
    with pytest.raises(InputError):
        loaded.map.rows([words.rows])
    backbone.unload()


def test_pruned_and_whole_say_the_same(tiny_model: Callable[..., Path]) -> None:
    said = []
    for prune in (True, False):
        settings = GgufSettings(context_tokens=256, capacity=1, threads=ONE, prune=prune)
        backbone = GgufBackbone(tiny_model("air", "Q4_0"), settings)
        backbone.load()
        said.append(speak(backbone, prompt_of(backbone, range(50)), TokenSampling(seed=2), 60))
        backbone.unload()
    assert said[0] == said[1]


def test_it_can_be_unloaded_and_loaded_again(tiny_model: Callable[..., Path]) -> None:
    backbone = GgufBackbone(tiny_model(), GgufSettings(context_tokens=256, threads=ONE))
    said = []
    for _ in range(2):
        backbone.load()
        backbone.load()
        backbone.admit(prompt_of(backbone, [4] * 30), GREEDY, 50)
        said.append(speak(backbone, prompt_of(backbone, [3] * 30), GREEDY, 20))
        backbone.unload()
        backbone.unload()
    assert said[0] == said[1]
    with pytest.raises(EngineError, match="not loaded"):
        backbone.vocabulary  # noqa: B018


@pytest.mark.parametrize("exact", [True, False])
def test_flash_attention_says_nearly_the_same(tiny_model: Callable[..., Path], exact: bool) -> None:
    scores = []
    for flash in (False, True):
        settings = GgufSettings(512, 1, ONE, exact=exact, flash_attention=flash)
        backbone = GgufBackbone(tiny_model("air"), settings)
        backbone.load()
        backbone.admit(prompt_of(backbone, range(200)), GREEDY, 5)
        while not backbone.step():
            pass
        scores.append(backbone._scores.copy())
        backbone.unload()
    one, other = scores
    assert not np.array_equal(one, other)
    assert one @ other / np.linalg.norm(one) / np.linalg.norm(other) > 0.9999


def test_an_empty_prompt_and_no_tokens_are_refused(backbone: GgufBackbone) -> None:
    with pytest.raises(InputError):
        backbone.admit(Prompt(()), GREEDY, 5)
    with pytest.raises(InputError):
        backbone.admit(prompt_of(backbone, [1]), GREEDY, 0)
    assert held(backbone) == [0] * 4


def test_a_gpu_that_is_not_there_is_an_error(tiny_model: Callable[..., Path]) -> None:
    if gpu_devices():
        pytest.skip("this llama.cpp has a GPU")
    backbone = GgufBackbone(tiny_model(), GgufSettings(gpu_layers=-1))
    with pytest.raises(SettingsError, match="GPU"):
        backbone.load()


def test_files_that_cannot_be_used_are_named(
    tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(ModelFileError, match="no file"):
        GgufBackbone(tmp_path / "none.gguf").load()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny_model().read_bytes()[:-100_000])
    with pytest.raises(ModelFileError):
        GgufBackbone(cut).load()
    with pytest.raises(ModelFileError):
        GgufBackbone(cut, GgufSettings(prune=False)).load()
    assert list(tmp_path.glob("*.part")) == []


def test_the_cpu_says_so(backbone: GgufBackbone) -> None:
    assert (backbone.device, backbone.capacity, backbone.context_tokens) == ("cpu", 4, 512)
    assert backbone.family.name == "nano"


def test_it_tells_how_its_weights_are_stored_and_no_card(backbone: GgufBackbone) -> None:
    assert backbone.weights == WeightsFormat("all F32", "as the file has them")
    assert backbone.gpu is None
