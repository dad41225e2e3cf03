from __future__ import annotations

import json

import pytest
import torch

from engines.qwen3.tiny import DATA, config_of, tiny_json, tiny_talker
from vivavoce.engines.qwen3.code_predictor import decoder_shape
from vivavoce.engines.qwen3.config import Qwen3Config
from vivavoce.engines.qwen3.talker import Talker
from vivavoce.runtime.nn.kv import KVBuffer
from vivavoce.runtime.nn.rope import RopeTable

POSITIONS = 40


def true_size(name: str) -> Qwen3Config:
    """A published configuration, with the text ids that the tiny reader asks for."""
    return config_of(json.loads((DATA / f"config_{name}_customvoice.json").read_text()))


@pytest.mark.parametrize(
    ("config", "manifest"),
    [
        ("0.6b", "custom_voice_06"),
        ("0.6b", "base_06"),
        ("1.7b", "custom_voice_17"),
        ("1.7b", "voice_design_17"),
        ("1.7b", "base_17"),
    ],
)
def test_names_and_shapes_are_those_of_the_published_weights(config: str, manifest: str) -> None:
    with torch.device("meta"):
        talker = Talker(true_size(config).talker)
    listed = json.loads((DATA / "manifests" / f"keys_{manifest}.json").read_text())
    published = {name: shape for name, shape in listed.items() if name.startswith("talker.")}
    assert published
    own = {f"talker.{name}": list(value.shape) for name, value in talker.state_dict().items()}
    assert own == published


@pytest.fixture(scope="module")
def talker() -> Talker:
    return tiny_talker(config_of(tiny_json("base")), dtype=torch.float64).requires_grad_(False)


def buffers(talker: Talker, rows: int) -> tuple[KVBuffer, RopeTable]:
    like = talker.codec_head.weight
    kv = KVBuffer.zeros(decoder_shape(talker.config).kv_shape(rows, POSITIONS), like)
    return kv, RopeTable.build(POSITIONS, talker.config.head_dim, talker.config.rope_theta, like)


def prompts(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, 32, generator=torch.Generator().manual_seed(5)).double()


def test_padding_behind_a_prompt_changes_nothing(talker: Talker) -> None:
    x = prompts(2, 9)
    kv, rope = buffers(talker, 2)
    out = talker.prefill(x, torch.tensor([4, 9]), kv, rope)
    for row, length in enumerate((4, 9)):
        single, table = buffers(talker, 1)
        alone = talker.prefill(x[row : row + 1, :length], torch.tensor([length]), single, table)
        assert torch.allclose(out[row], alone[0], atol=1e-12)
        assert torch.allclose(
            kv.keys[:, row, :, :length], single.keys[:, 0, :, :length], atol=1e-12
        )


def test_steps_continue_a_prefill(talker: Talker) -> None:
    x = prompts(1, 12)
    kv, rope = buffers(talker, 1)
    out = talker.prefill(x[:, :7], torch.tensor([7]), kv, rope)
    for position in range(7, 12):
        out = talker.step(x[:, position], torch.tensor([position]), kv, rope, span=position + 1)
    whole = talker.prefill(x, torch.tensor([12]), *buffers(talker, 1))
    assert torch.allclose(out, whole, atol=1e-12)


def test_a_prefill_goes_on_behind_a_kept_prefix(talker: Talker) -> None:
    x = prompts(1, 12)
    kv, rope = buffers(talker, 1)
    talker.prefill(x[:, :5], torch.tensor([5]), kv, rope)
    out = talker.prefill(x[:, 5:], torch.tensor([7]), kv, rope, start=5)
    whole = talker.prefill(x, torch.tensor([12]), *buffers(talker, 1))
    assert torch.allclose(out, whole, atol=1e-12)


def test_the_span_only_bounds_the_work(talker: Talker) -> None:
    x = prompts(1, 6)
    kv, rope = buffers(talker, 1)
    talker.prefill(x[:, :5], torch.tensor([5]), kv, rope)
    step = (x[:, 5], torch.tensor([5]), kv, rope)
    assert torch.allclose(
        talker.step(*step, span=6), talker.step(*step, span=POSITIONS), atol=1e-12
    )


def test_a_frame_is_the_sum_of_its_codes(talker: Talker) -> None:
    codes = torch.randint(2048, (3, 16), generator=torch.Generator().manual_seed(1))
    expected = talker.model.codec_embedding.weight[codes[:, 0]].clone()
    for group in range(1, 16):
        expected += talker.code_predictor.model.codec_embedding[group - 1].weight[codes[:, group]]
    assert torch.allclose(talker.embed_frames(codes), expected)
