from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engines.qwen3.tiny import config_of, tiny_json, tiny_talker
from vivavoce.engines.qwen3.code_predictor import CodePredictor, PredictorBuffers, decoder_shape
from vivavoce.runtime.nn.kv import KVBuffer, Placement
from vivavoce.runtime.nn.sampling import SamplerOptions, SamplerRows

GROUPS = 16


@pytest.fixture(scope="module", params=[False, True], ids=["small", "wide"])
def predictor(request: pytest.FixtureRequest) -> CodePredictor:
    config = config_of(tiny_json("custom_voice", wide=request.param))
    return tiny_talker(config, dtype=torch.float64).code_predictor.requires_grad_(False)


def buffers(predictor: CodePredictor, rows: int) -> PredictorBuffers:
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
    codes, embeddings = predictor.predict(hidden, first, buffers(predictor, 3), greedy(3), best)
    assert codes.shape == (3, GROUPS - 1)
    x = predictor.small_to_mtp_projection(torch.stack((hidden, first, *embeddings[:-1]), 1))
    made = buffers(predictor, 3)
    whole = predictor.model(x, Placement.alike(made.rope, 0, GROUPS), made.kv)
    for group, head in enumerate(predictor.lm_head, start=1):
        assert torch.equal(head(whole[:, group]).argmax(-1), codes[:, group - 1])
        assert torch.equal(predictor.embed(group, codes[:, group - 1]), embeddings[group - 1])


def test_a_frame_leaves_nothing_for_the_next(predictor: CodePredictor) -> None:
    hidden, first = inputs(predictor, 2)
    scratch = buffers(predictor, 2)
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

    codes, _ = predictor.predict(hidden, first, buffers(predictor, 1), drawing, draw)
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
