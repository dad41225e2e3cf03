"""Any way of cutting, batching and continuing gives the sound of the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from engines.qwen3.codec.small import GROUPS, SAMPLES_PER_FRAME, SIZE, some_codes
from vivavoce.engines.qwen3.checkpoint import Checkpoint
from vivavoce.engines.qwen3.codec.decoder import CodecDecoder, load_decoder
from vivavoce.engines.qwen3.codec.state import DecoderState
from vivavoce.errors import ModelFileError

FRAMES = 40
schedules = st.lists(st.integers(1, 15), min_size=1, max_size=12).filter(
    lambda cuts: sum(cuts) <= FRAMES
)


def whole(decoder: CodecDecoder, codes: Tensor) -> Tensor:
    """All codes [B, T, 16] at once, from a beginning."""
    return decoder.decode(codes, decoder.init_state(len(codes), max_frames=codes.shape[1]))


def in_chunks(
    decoder: CodecDecoder, codes: Tensor, schedule: Sequence[int], state: DecoderState
) -> Tensor:
    """Codes [B, T, 16] chunk by chunk; what the schedule leaves over comes last."""
    parts, start = [], 0
    for frames in (*schedule, codes.shape[1] - sum(schedule)):
        if frames:
            parts.append(decoder.decode(codes[:, start : start + frames], state))
            start += frames
    return torch.cat(parts, 1)


def error(left: Tensor, right: Tensor) -> float:
    return float((left - right).abs().max())


@pytest.mark.parametrize("frames", [1, 7, 60])
def test_sound_of_the_published_package(
    decoder: CodecDecoder, golden: Mapping[str, NDArray[np.generic]], frames: int
) -> None:
    codes = some_codes(f"codes{frames}", frames)[None]
    samples = whole(decoder, codes)[0]
    assert samples.dtype == torch.float32
    assert samples.shape == (frames * SAMPLES_PER_FRAME,)
    np.testing.assert_allclose(samples, golden[f"codes{frames}"], rtol=0, atol=3e-4)
    assert samples.std() > 0.05


@settings(deadline=None, max_examples=20)
@given(schedule=schedules)
def test_chunks_equal_the_whole(
    decoder: CodecDecoder, exact: CodecDecoder, schedule: list[int]
) -> None:
    codes = some_codes("chunks", 2, FRAMES)
    # How far float32 is from exact sums depends on the CPU; two ways to add may differ by twice it.
    rounding = error(whole(decoder, codes).double(), whole(exact, codes))
    assert rounding < 1e-3
    for model, limit in ((decoder, max(3e-4, 2 * rounding)), (exact, 1e-9)):
        pieces = in_chunks(model, codes, schedule, model.init_state(2))
        assert error(pieces, whole(model, codes)) < limit


@settings(deadline=None, max_examples=20)
@given(
    turns=st.lists(
        st.tuples(st.integers(1, 6), st.lists(st.booleans(), min_size=3, max_size=3)), max_size=8
    )
)
def test_rows_go_on_by_themselves(exact: CodecDecoder, turns: list[tuple[int, list[bool]]]) -> None:
    codes = some_codes("rows", 3, 48)
    state = exact.init_state(3)
    done: list[list[Tensor]] = [[], [], []]
    at = [0, 0, 0]
    for frames, active in turns:
        before = state.clone()
        chunk = torch.stack([codes[row, at[row] : at[row] + frames] for row in range(3)])
        samples = exact.decode(chunk, state, torch.tensor(active))
        for row in range(3):
            if active[row]:
                done[row].append(samples[row])
                at[row] += frames
            else:
                assert not samples[row].any()
                assert same_rows(state, row, before, row)
    for row in range(3):
        if at[row]:
            alone = whole(exact, codes[row : row + 1, : at[row]])[0]
            assert error(torch.cat(done[row]), alone) < 1e-9
    assert state.positions.tolist() == at


def same_rows(left: DecoderState, row: int, right: DecoderState, other: int) -> bool:
    theirs = right.tensors()
    return all(
        torch.equal(tensor[row], theirs[name][other]) for name, tensor in left.tensors().items()
    )


def test_a_primed_stream_goes_on_as_a_decoded_one(exact: CodecDecoder) -> None:
    codes = some_codes("primed", 1, 50)
    for reference in (1, 3, exact.hearing_frames + 1, 40):
        voice = exact.prime(codes[0, :reference])
        live = exact.init_state(3)
        exact.decode(some_codes("others", 3, 5), live)
        live.copy_row(1, voice)
        rest = codes[:, reference:].expand(3, -1, -1)
        expected = whole(exact, codes)[0, reference * SAMPLES_PER_FRAME :]
        assert error(exact.decode(rest, live)[1], expected) < 1e-9
        assert voice.positions.tolist() == [reference]


def test_a_row_begins_anew_after_reset(exact: CodecDecoder) -> None:
    codes = some_codes("reset", 2, 20)
    state = exact.init_state(2)
    first = exact.decode(codes, state)
    state.reset(0)
    again = exact.decode(codes, state)
    assert error(again[0], first[0]) == 0
    assert error(again[1], first[1]) > 1e-3
    state.reset()
    assert error(exact.decode(codes, state), first) == 0


def test_rows_can_be_gathered_viewed_and_saved(exact: CodecDecoder) -> None:
    codes = some_codes("gathered", 3, 30)
    state = exact.init_state(3)
    exact.decode(codes[:, :9], state)
    gathered = state.gather([2, 0, 2])
    saved = {name: tensor.clone() for name, tensor in state.tensors().items()}
    restored = exact.init_state(1).with_tensors(saved)
    later = exact.decode(codes[:, 9:], state.clone())
    assert error(exact.decode(codes[[2, 0, 2], 9:], gathered), later[[2, 0, 2]]) < 1e-12
    assert error(exact.decode(codes[:, 9:], restored), later) < 1e-12
    part = exact.decode(codes[1:2, 9:], state.view(1, 2))
    assert error(part[0], later[1]) < 1e-12
    assert state.positions.tolist() == [9, 30, 9]


def test_a_saved_state_of_another_codec_is_refused(exact: CodecDecoder) -> None:
    state = exact.init_state(1)
    longer = exact.init_state(1, max_frames=20).tensors()
    with pytest.raises(ModelFileError, match=r"does not fit.*keys"):
        state.with_tensors(longer)
    with pytest.raises(ModelFileError, match="other layers"):
        state.with_tensors({"positions": state.positions})


def test_a_wrong_code_is_seen_and_harms_its_own_row_alone(exact: CodecDecoder) -> None:
    codes = some_codes("wrong", 3, 12)
    good = whole(exact, codes)
    for bad in (SIZE, 2150, -1, 2**40):
        spoilt = codes.clone()
        spoilt[1, 5, GROUPS - 1] = bad
        state = exact.init_state(3)
        sound = exact.decode(spoilt, state)
        assert state.invalid.tolist() == [False, True, False]
        assert error(sound[[0, 2]], good[[0, 2]]) < 1e-12
        assert sound.isfinite().all()
        exact.decode(codes[:, :1], state)
        assert state.invalid.tolist() == [False, True, False]
        state.reset(1)
        assert not state.invalid.any()


def test_memory_of_a_row(decoder: CodecDecoder) -> None:
    state = decoder.init_state(3)
    assert decoder.row_bytes() == state.row_bytes
    assert decoder.row_bytes(torch.bfloat16) < 0.51 * decoder.row_bytes()
    more = decoder.row_bytes(max_frames=13) - decoder.row_bytes(max_frames=12)
    assert more == 2 * 2 * 2 * 8 * 4  # layers, keys and values, heads, head_dim, float32


def test_half_precision(small: Checkpoint, decoder: CodecDecoder) -> None:
    codes = some_codes("half", 1, 20)
    half = load_decoder(small, dtype=torch.bfloat16)
    samples = half.decode(codes, half.init_state(1))
    assert samples.dtype == torch.float32
    assert torch.corrcoef(torch.cat((samples, whole(decoder, codes))))[0, 1] > 0.95


def test_it_traces_without_a_break(small: Checkpoint) -> None:
    config = replace(small.config.codec.decoder, num_hidden_layers=1, upsample_rates=(2,))
    decoder = CodecDecoder(config).double()
    decoder.tables.table.normal_()
    decoder.fold()
    decoder.pre_conv.as_matrix = True
    compiled = torch.compile(decoder.decode, fullgraph=True, dynamic=False, backend="eager")
    codes, active = some_codes("traced", 2, 12), torch.tensor([True, False])
    ours, theirs = decoder.init_state(2), decoder.init_state(2)
    for start in range(0, 12, 4):
        chunk = codes[:, start : start + 4].contiguous()
        made = compiled(chunk, theirs, active)
        assert error(made, decoder.decode(chunk, ours, active)) < 1e-12
    assert theirs.positions.tolist() == [12, 0]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler's own modules
def test_it_compiles(decoder: CodecDecoder) -> None:
    compiled = torch.compile(decoder.decode, fullgraph=True, dynamic=False)
    codes = some_codes("compiled", 2, 8)
    state = decoder.init_state(2)
    parts = [compiled(codes[:, at : at + 4].contiguous(), state) for at in (0, 4)]
    assert error(torch.cat(parts, 1), whole(decoder, codes)) < 3e-4
