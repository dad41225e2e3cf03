"""Rows of a PyTorch backbone: they join, speak, end and leave, and do not notice each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engines.neutts.torch_lm.speaking import GREEDY, Said, advance, loaded, prompt_ids, speak
from vivavoce.engines.neutts.backbone import Prompt, TokenSampling
from vivavoce.engines.neutts.torch_backbone import TorchBackbone
from vivavoce.engines.neutts.torch_plan import TorchLmOptions
from vivavoce.engines.neutts.torch_rows import Runner
from vivavoce.errors import ContextOverflow, EngineError, InputError, SettingsError

TinyLm = Callable[..., Path]
SAMPLINGS = (
    TokenSampling(seed=1),
    GREEDY,
    TokenSampling(seed=2, top_k=0, top_p=0.9, temperature=0.7),
)


@pytest.fixture(scope="module")
def air(tiny_lm: TinyLm) -> TorchBackbone:
    return loaded(tiny_lm("neutts-air"))


@pytest.fixture(scope="module")
def ending(tiny_lm: TinyLm) -> TorchBackbone:
    """END follows every third code."""
    return loaded(tiny_lm("neutts-air", end_every=3))


def three_prompts(backbone: TorchBackbone) -> list[tuple[int, ...]]:
    """Prompts of different lengths."""
    return [prompt_ids(backbone.vocabulary, 10 + 25 * n, first=n) for n in range(3)]


def spy_on_prefill(backbone: TorchBackbone, patch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The parts of prompts that are evaluated from now on: first position, and how many."""
    parts: list[tuple[int, int]] = []
    whole = Runner.prefill

    def prefill(self: Runner, row: int, start: int, stop: int) -> None:
        parts.append((start, stop - start))
        whole(self, row, start, stop)

    patch.setattr(Runner, "prefill", prefill)
    return parts


def test_rows_together_say_what_they_say_alone(air: TorchBackbone) -> None:
    prompts = three_prompts(air)
    alone = [speak(air, [p], [s], 12)[0] for p, s in zip(prompts, SAMPLINGS, strict=True)]
    assert speak(air, prompts, SAMPLINGS, 12) == alone
    assert len({tuple(said.codes) for said in alone}) == 3
    assert all(len(said.codes) == 12 and said.reason == "length" for said in alone)


def test_rows_join_and_leave(air: TorchBackbone) -> None:
    prompts = three_prompts(air)
    alone = [speak(air, [p], [s], 14)[0].codes for p, s in zip(prompts, SAMPLINGS, strict=True)]
    rows: dict[int, Said] = {}

    def admit(number: int) -> int:
        row = air.admit(Prompt(prompts[number]), SAMPLINGS[number], 14)
        rows[row] = Said()
        return row

    first = admit(0)
    advance(air, rows, 4)
    second = admit(1)
    advance(air, rows, 4)
    assert rows[first].codes and rows[second].codes
    air.release(first)
    heard = rows.pop(first).codes
    assert heard == alone[0][: len(heard)]
    third = admit(2)
    assert third == first, "the lowest free row"
    advance(air, rows, 20)
    assert rows[second].codes == alone[1]
    assert rows[third].codes == alone[2]
    assert not air.step()


def test_results_a_step_late_are_the_same(
    air: TorchBackbone, ending: TorchBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU the host reads what the step before drew."""
    for backbone in (air, ending):
        prompts = three_prompts(backbone)
        expected = speak(backbone, prompts, SAMPLINGS, 12)
        monkeypatch.setattr(backbone, "_lag", 1)
        assert speak(backbone, prompts, SAMPLINGS, 12) == expected
        row = backbone.admit(Prompt(prompts[0]), SAMPLINGS[0], 12)
        backbone.step()
        backbone.step()
        backbone.release(row)
        assert backbone.step() == [], "nothing of a released row arrives"
        assert speak(backbone, prompts[1:2], SAMPLINGS[1:2], 12) == expected[1:2]


def test_end_stops_a_row(ending: TorchBackbone) -> None:
    said = speak(ending, [prompt_ids(ending.vocabulary)], [TokenSampling(seed=5)], 100)[0]
    assert said.reason == "stop"
    assert said.codes[-1] % 3 == 0
    assert all(code % 3 for code in said.codes[:-1])


def test_end_can_come_first(ending: TorchBackbone) -> None:
    ids = (*prompt_ids(ending.vocabulary), *ending.vocabulary.speech_ids([300]))
    said = speak(ending, [ids], [GREEDY], 100)[0]
    assert said == Said([], "stop")


@pytest.mark.parametrize("greedy", [True, False])
def test_end_is_banned_before_min_tokens(ending: TorchBackbone, greedy: bool) -> None:
    ids = (*prompt_ids(ending.vocabulary), *ending.vocabulary.speech_ids([300]))
    for least in (0, 1, 12):
        sampling = TokenSampling(seed=3, greedy=greedy, min_tokens=least)
        said = speak(ending, [ids], [sampling], 60)[0]
        assert len(said.codes) >= least
        assert said.codes or not least


def test_seeds_decide(air: TorchBackbone) -> None:
    ids = prompt_ids(air.vocabulary)
    said = [speak(air, [ids], [TokenSampling(seed=seed)], 8)[0].codes for seed in (1, 2, 1, 2**40)]
    assert said[0] == said[2]
    assert len({tuple(codes) for codes in said}) == 3


def test_a_full_context_ends_a_row(tiny_lm: TinyLm) -> None:
    backbone = loaded(tiny_lm("neutts-nano"), context_tokens=100)
    ids = prompt_ids(backbone.vocabulary, 100)
    said = speak(backbone, [ids[:90]], [GREEDY], 1_000)[0]
    assert (len(said.codes), said.reason) == (10, "length")
    assert len(speak(backbone, [ids[:99]], [GREEDY], 1_000)[0].codes) == 1
    with pytest.raises(ContextOverflow) as caught:
        backbone.admit(Prompt(ids[:100]), GREEDY, 10)
    assert caught.value.context_tokens == 100


def test_what_cannot_be_admitted(air: TorchBackbone) -> None:
    for ids in ((), (-1,), (10**6,)):
        with pytest.raises(InputError):
            air.admit(Prompt(ids), GREEDY, 10)
    with pytest.raises(InputError):
        air.admit(Prompt((1, 2)), GREEDY, 0)
    with pytest.raises(InputError):
        air.admit(Prompt((1, 2), shared_prefix=3), GREEDY, 1)
    rows = [air.admit(Prompt((1, 2)), GREEDY, 10) for _ in range(air.capacity)]
    with pytest.raises(EngineError):
        air.admit(Prompt((1, 2)), GREEDY, 10)
    for row in rows:
        air.release(row)
    air.release(99)
    assert not air.step()


def test_a_prompt_of_one_token(air: TorchBackbone) -> None:
    assert len(speak(air, [(5,)], [GREEDY], 3)[0].codes) == 3


def test_steps_are_bounded(tiny_lm: TinyLm, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = loaded(tiny_lm("neutts-air"), prefill_slice=16)
    ids = prompt_ids(backbone.vocabulary, 60)
    rows = {backbone.admit(Prompt(ids[:8]), GREEDY, 200): Said()}
    advance(backbone, rows, 1)
    parts = spy_on_prefill(backbone, monkeypatch)
    for _ in range(3):
        rows[backbone.admit(Prompt(ids[:30], shared_prefix=20), GREEDY, 200)] = Said()
    for _ in range(8):
        parts.clear()
        spoken = len(rows[0].codes)
        advance(backbone, rows, 1)
        assert sum(count for _, count in parts) <= 16
        assert len(rows[0].codes) == spoken + 1, "whoever speaks goes on"
    assert all(said.codes for said in rows.values())


@pytest.mark.parametrize(("busy_slice", "read"), [(0, 32), (7, 7), (100, 100)])
def test_whoever_steps_says_how_much_is_read_while_others_speak(
    tiny_lm: TinyLm, busy_slice: int, read: int
) -> None:
    backbone = loaded(tiny_lm("neutts-air"))
    ids = prompt_ids(backbone.vocabulary, 130)
    backbone.admit(Prompt(ids), GREEDY, 60)
    while not backbone.step():
        pass
    backbone.admit(Prompt(ids), GREEDY, 5)
    before = backbone.reading
    assert before.left == len(ids) - 1
    backbone.step(busy_slice=busy_slice)
    after = backbone.reading
    assert after.evaluated - before.evaluated == before.left - after.left == read


def test_slices_are_shorter_while_somebody_speaks(
    tiny_lm: TinyLm, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = loaded(tiny_lm("neutts-air"))
    ids = prompt_ids(backbone.vocabulary, 100)
    parts = spy_on_prefill(backbone, monkeypatch)
    rows = {backbone.admit(Prompt(ids), GREEDY, 50): Said()}
    advance(backbone, rows, 2)
    assert [count for _, count in parts] == [128, len(ids) - 129]
    parts.clear()
    rows[backbone.admit(Prompt(ids), GREEDY, 50)] = Said()
    advance(backbone, rows, 2)
    assert [count for _, count in parts] == [32, 32]


def test_a_voice_is_evaluated_once(tiny_lm: TinyLm, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = loaded(tiny_lm("neutts-2e"))
    ids = prompt_ids(backbone.vocabulary)
    parts = spy_on_prefill(backbone, monkeypatch)
    first = speak(backbone, [ids], [GREEDY], 8, shared=20)[0]
    assert parts == [(0, 20), (20, len(ids) - 21)]
    parts.clear()
    other = (*ids[:20], *reversed(ids[20:]))
    assert speak(backbone, [other], [GREEDY], 8, shared=20)[0] != first
    assert speak(backbone, [ids], [GREEDY], 8, shared=20)[0] == first
    assert {start for start, _ in parts} == {20}


def test_release_in_any_phase(tiny_lm: TinyLm) -> None:
    backbone = loaded(tiny_lm("neutts-air"), prefill_slice=20)
    ids = prompt_ids(backbone.vocabulary)
    expected = speak(backbone, [ids], [GREEDY], 3)
    for steps in (0, 1, 6, 15):
        rows = [backbone.admit(Prompt(ids), TokenSampling(seed=n), 50) for n in range(2)]
        for _ in range(steps):
            backbone.step()
        for row in rows:
            backbone.release(row)
        assert not backbone.step()
        assert speak(backbone, [ids], [GREEDY], 3) == expected


def test_scores_that_are_no_numbers_end_one_row(tiny_lm: TinyLm) -> None:
    backbone = loaded(tiny_lm("neutts-air"))
    ids = prompt_ids(backbone.vocabulary)
    expected = speak(backbone, [ids], [GREEDY], 8)[0]
    good = backbone.admit(Prompt(ids), GREEDY, 8)
    bad = backbone.admit(Prompt(ids), GREEDY, 8)
    rows = {good: Said(), bad: Said()}
    advance(backbone, rows, 3)
    state = backbone._loaded.state
    state.kv.values[0, bad, :, 3] = torch.nan
    advance(backbone, rows, 20)
    assert rows[bad].reason == "error"
    assert rows[good] == expected
    again = speak(backbone, [ids, ids], [GREEDY, GREEDY], 8)
    assert again == [expected, expected], "in the row that failed, too"


def test_unloaded_and_loaded_again(tiny_lm: TinyLm) -> None:
    backbone = TorchBackbone(tiny_lm("neutts-air"), TorchLmOptions(device="cpu"))
    with pytest.raises(EngineError):
        _ = backbone.vocabulary
    backbone.load()
    ids = prompt_ids(backbone.vocabulary)
    expected = speak(backbone, [ids], [GREEDY], 4)
    backbone.admit(Prompt(ids), GREEDY, 4)
    backbone.unload()
    with pytest.raises(EngineError):
        backbone.admit(Prompt(ids), GREEDY, 4)
    backbone.load()
    assert speak(backbone, [ids], [GREEDY], 4) == expected
    assert backbone.device == "cpu"
    assert backbone.family.name == "air"


@pytest.mark.parametrize(
    "options",
    [
        {"device": "cuda"},
        {"device": "cuda:3"},
        {"device": "tpu"},
        {"device": "cuda:x"},
        {"dtype": "int4"},
        {"attention": "none"},
        {"capacity": 0},
        {"prefill_slice": 0},
    ],
)
def test_settings_that_cannot_be(
    tiny_lm: TinyLm, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingsError):
        TorchBackbone(tiny_lm("neutts-air"), TorchLmOptions(**options))  # type: ignore[arg-type]
