"""Codes are checked where they come in; tables equal the published arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from engines.qwen3.codec.small import GROUPS, SIZE, some_codes
from vivavoce.engines.qwen3.checkpoint import Checkpoint
from vivavoce.engines.qwen3.codec.decoder import CodecDecoder
from vivavoce.engines.qwen3.codec.quantizer import check_codes, nearest_codes
from vivavoce.errors import EngineError, ModelFileError


def test_good_codes_pass_as_int64() -> None:
    codes = some_codes("good", 3)
    for given in (codes, codes.int(), codes.numpy(), codes.numpy().astype(np.uint16)):
        checked = check_codes(given, GROUPS, SIZE)
        assert checked.dtype == torch.int64
        assert torch.equal(checked, codes)
    assert check_codes(codes[:0], GROUPS, SIZE).shape == (0, GROUPS)


@pytest.mark.parametrize("bad", [SIZE, 2150, -1])
def test_a_code_outside_the_codebook_is_named(bad: int) -> None:
    codes = some_codes("bad", 3)
    codes[2, 15] = bad
    with pytest.raises(EngineError, match=rf"code {bad} is outside the codebook of {SIZE}"):
        check_codes(codes, GROUPS, SIZE)
    with pytest.raises(ModelFileError):
        check_codes(codes, GROUPS, SIZE, error=ModelFileError)


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        (torch.zeros(3, 15, dtype=torch.int64), "do not have 16"),
        (torch.tensor(5), "do not have 16"),
        (torch.zeros(3, 16), "not whole numbers"),
        (torch.zeros(3, 16, dtype=torch.bool), "not whole numbers"),
    ],
)
def test_what_is_no_frame_of_codes_is_refused(codes: torch.Tensor, words: str) -> None:
    with pytest.raises(EngineError, match=words):
        check_codes(codes, GROUPS, SIZE)


def test_tables_equal_projected_sums(small: Checkpoint, decoder: CodecDecoder) -> None:
    codes = some_codes("tables", 1, 9)
    books = small.decoder_codebooks()
    at = "codec.decoder.quantizer."
    expected = functional.conv1d(
        books[0][codes[0, :, 0]].T, small.tensor(f"{at}rvq_first.output_proj.weight")
    )
    rest = torch.stack([books[group][codes[0, :, group]] for group in range(1, GROUPS)]).sum(0)
    expected += functional.conv1d(rest.T, small.tensor(f"{at}rvq_rest.output_proj.weight"))
    latents, wrong = decoder.tables(codes)
    assert not wrong.any()
    torch.testing.assert_close(latents[0], expected.T, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("bad", [-1, SIZE, 2**40])
def test_a_code_outside_its_codebook_adds_nothing(decoder: CodecDecoder, bad: int) -> None:
    codes = some_codes("outside", 1, 2)
    before, _ = decoder.tables(codes)
    own = decoder.tables.table.view(GROUPS, SIZE + 1, -1)[3, codes[0, 1, 3]]
    codes[0, 1, 3] = bad
    after, wrong = decoder.tables(codes)
    assert wrong.tolist() == [True]
    torch.testing.assert_close(after[0, 1], before[0, 1] - own, atol=1e-5, rtol=1e-5)
    assert torch.equal(after[0, 0], before[0, 0])


def test_codes_of_what_codes_mean() -> None:
    books = torch.tensor([[[0.0, 0.0], [10.0, 0.0]], [[1.0, 0.0], [0.0, 2.0]]])
    latents = torch.tensor([[11.0, 0.1], [0.2, 1.9]])
    assert nearest_codes(latents, books).tolist() == [[1, 0], [0, 1]]
