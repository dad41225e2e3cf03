from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from engines.qwen3.tiny import DATA, config_of, tiny_json, tiny_talker
from vivavoce.engines.qwen3.config import Qwen3Config
from vivavoce.engines.qwen3.talker import CodePredictor, PredictorBuffers, Talker, decoder_shape
from vivavoce.runtime.nn.kv import KVBuffer, Placement
from vivavoce.runtime.nn.rope import RopeTable
from vivavoce.runtime.nn.sampling import SamplerOptions, SamplerRows

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


GROUPS = 16


@pytest.fixture(scope="module", params=[False, True], ids=["small", "wide"])
def predictor(request: pytest.FixtureRequest) -> CodePredictor:
    config = config_of(tiny_json("custom_voice", wide=request.param))
    return tiny_talker(config, dtype=torch.float64).code_predictor.requires_grad_(False)


def predictor_buffers(predictor: CodePredictor, rows: int) -> PredictorBuffers:
    config = config_of(tiny_json("custom_voice")).talker.code_predictor
    return PredictorBuffers.build(config, rows, predictor.lm_head[0].weight.detach())


def inputs(predictor: CodePredictor, rows: int) -> tuple[Tensor, Tensor]:
    size = predictor.model.codec_embedding[0].weight.shape[1]
    hidden, first = torch.randn(2, rows, size, generator=torch.Generator().manual_seed(3))
    return hidden.double(), first.double()


def greedy(rows: int) -> SamplerRows:
    return SamplerRows.build(rows, torch.device("cpu"))


def best(scores: Tensor, group: int) -> Tensor:
    return scores.argmax(-1)


def test_codes_agree_with_one_pass_over_the_whole_frame(predictor: CodePredictor) -> None:
    hidden, first = inputs(predictor, 3)
    codes, embeddings = predictor.predict(
        hidden, first, predictor_buffers(predictor, 3), greedy(3), best
    )
    assert codes.shape == (3, GROUPS - 1)
    x = predictor.small_to_mtp_projection(torch.stack((hidden, first, *embeddings[:-1]), 1))
    made = predictor_buffers(predictor, 3)
    whole = predictor.model(x, Placement.alike(made.rope, 0, GROUPS), made.kv)
    for group, head in enumerate(predictor.lm_head, start=1):
        assert torch.equal(head(whole[:, group]).argmax(-1), codes[:, group - 1])
        assert torch.equal(predictor.embed(group, codes[:, group - 1]), embeddings[group - 1])


def test_a_frame_leaves_nothing_for_the_next(predictor: CodePredictor) -> None:
    hidden, first = inputs(predictor, 2)
    scratch = predictor_buffers(predictor, 2)
    fresh, _ = predictor.predict(hidden, first, scratch, greedy(2), best)
    predictor.predict(first, hidden, scratch, greedy(2), best)
    again, _ = predictor.predict(hidden, first, scratch, greedy(2), best)
    assert torch.equal(fresh, again)


def test_each_group_is_drawn_from_its_own_scores(predictor: CodePredictor) -> None:
    hidden, first = inputs(predictor, 1)
    drawing = greedy(1)
    drawing.set(0, SamplerOptions(temperature=0.5, top_k=4))
    asked = []

    def draw(scores: Tensor, group: int) -> Tensor:
        asked.append((group, int(scores.isfinite().sum())))
        return torch.tensor([group])

    codes, _ = predictor.predict(hidden, first, predictor_buffers(predictor, 1), drawing, draw)
    assert asked == [(group, 4) for group in range(1, GROUPS)]
    assert codes.tolist() == [list(range(1, GROUPS))]


def test_the_projection_is_there_for_wide_talkers_alone() -> None:
    for wide in (False, True):
        names = tiny_talker(config_of(tiny_json("base", wide=wide))).state_dict()
        assert ("code_predictor.small_to_mtp_projection.bias" in names) is wide


def test_buffers_have_one_position_a_group() -> None:
    config = config_of(tiny_json("base")).talker.code_predictor
    made = PredictorBuffers.build(config, 4, torch.zeros(1))
    assert isinstance(made.kv, KVBuffer)
    assert made.kv.keys.shape == decoder_shape(config).kv_shape(4, GROUPS)
    assert made.rows(1, 3).kv.keys.shape[1] == 2
