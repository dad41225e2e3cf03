"""A code predictor's frame in one launch gives the codes of one launch for each phase."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from engines.kernels.together import programs_together
from engines.qwen3.tiny import config_of, tiny_json, tiny_talker
from vivavoce.engines.kernels.chooser import Path, chosen
from vivavoce.engines.kernels.decoder import AT_ONCE
from vivavoce.engines.kernels.whole_frame import WholeFrame
from vivavoce.engines.layers import int8_cpu
from vivavoce.engines.layers.quantised import quantise_linears
from vivavoce.engines.layers.sampling import SamplerOptions
from vivavoce.engines.layers.weights import Precision
from vivavoce.engines.qwen3.fused import FusedTalker
from vivavoce.engines.qwen3.rows import RowState
from vivavoce.engines.qwen3.talker import Talker
from vivavoce.errors import InputError

CPU = torch.device("cpu")


def talker_of(*, wide: bool, precision: Precision = Precision.NONE) -> Talker:
    """Three codes of 64; ``wide``: wider than its predictor."""
    config = config_of(tiny_json("custom_voice", wide=wide, groups=3))
    fewer = replace(config.talker.code_predictor, vocab_size=64)
    talker = tiny_talker(replace(config, talker=replace(config.talker, code_predictor=fewer)))
    if precision is not Precision.NONE:
        predictor = talker.code_predictor
        for part in (talker.model, predictor.model, predictor.lm_head):
            quantise_linears(part, precision)
    return talker.requires_grad_(False)


def state_of(talker: Talker, rows: int) -> RowState:
    """The first row greedy, the others drawn."""
    state = RowState.build(talker.config, rows, 8, talker.codec_head.weight)
    generator = torch.Generator().manual_seed(5)
    state.hidden.normal_(generator=generator)
    state.seeds.random_(0, 2**32, generator=generator)
    for row in range(1, rows):
        state.code_sampler.set(row, SamplerOptions(temperature=1.2, top_k=20 * row))
    return state


def whole_of(fused: FusedTalker, programs: int) -> FusedTalker:
    return replace(fused, whole=WholeFrame.of(fused.predictor, fused.heads, fused.tables, programs))


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize(("programs", "rows", "wide"), [(1, 1, False), (3, 2, True), (5, 4, True)])
def test_its_codes_are_those_of_a_launch_for_each_phase(
    programs: int, rows: int, wide: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs wait for each other; a second frame finds the barrier as the first did."""
    talker = talker_of(wide=wide)
    fused = FusedTalker.of(talker, chosen(CPU, torch.float32, Path.TORCH), rows)
    one, many = state_of(talker, rows), state_of(talker, rows)
    first = torch.arange(rows) * 3 + 2
    whole = whole_of(fused, programs)
    with programs_together(monkeypatch):
        for frame in range(2):
            for state in (one, many):
                state.frames.fill_(frame)
            wanted, summed = fused.rest(many, first, fused.first_table[first])
            got, also = whole.rest(one, first, fused.first_table[first])
            assert torch.equal(got, wanted)
            torch.testing.assert_close(also, summed)
    for buffer in ("keys", "values"):
        kept = [getattr(state.predictor.kv, buffer) for state in (one, many)]
        torch.testing.assert_close(kept[0], kept[1], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_quantised_weights_are_read_by_their_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8_cpu, "available", lambda: False)  # as on a GPU
    talker = talker_of(wide=False, precision=Precision.INT8)
    fused = FusedTalker.of(talker, chosen(CPU, torch.float32, Path.TORCH), 1)
    first = torch.tensor([4])
    wanted, _ = fused.rest(state_of(talker, 1), first, fused.first_table[first])
    with programs_together(monkeypatch):
        got, _ = whole_of(fused, 2).rest(state_of(talker, 1), first, fused.first_table[first])
    assert torch.equal(got, wanted)


@torch.no_grad()
def test_what_one_launch_cannot_take_is_refused() -> None:
    fused = FusedTalker.of(talker_of(wide=False), chosen(CPU, torch.float32, Path.TORCH), 1)
    whole = whole_of(fused, 1).whole
    assert whole is not None
    state = state_of(talker_of(wide=False), AT_ONCE + 1)
    with pytest.raises(InputError, match=f"1 to {AT_ONCE} rows"):
        whole.plan(AT_ONCE + 1, state.predictor.kv)
    table = fused.tables[0]
    shifted = torch.empty(table.numel() + 1)[1:].view_as(table)
    with pytest.raises(InputError, match="aligned"):
        WholeFrame.of(fused.predictor, fused.heads, (shifted, *fused.tables[1:]), 1)
    unlike = (*fused.heads[:-1], replace(fused.heads[0], bias=torch.zeros(1)))
    with pytest.raises(InputError, match="of one kind"):
        WholeFrame.of(fused.predictor, unlike, fused.tables, 1)
