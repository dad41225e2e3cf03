"""Milliseconds of a frame by stage, and the bytes that a frame cannot do without."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from vivavoce.bench.engine.clock import median_ms
from vivavoce.bench.engine.setting import POSITIONS
from vivavoce.engines.capture.api import Work
from vivavoce.engines.layers.linear import quantised_bytes
from vivavoce.engines.qwen3.batch import SHORTLIST
from vivavoce.engines.qwen3.chunks import RAMP
from vivavoce.engines.qwen3.code_predictor import widen
from vivavoce.engines.qwen3.frame import FrameIds, frame
from vivavoce.engines.qwen3.model import Model
from vivavoce.engines.qwen3.rows import RowState
from vivavoce.engines.qwen3.sampling import SamplerOptions, choose, keyed_draw, penalise
from vivavoce.engines.qwen3.talker import Talker

PLACE, SPAN = 64, 256
"""Where the rows stand, and positions that attention reads."""

CHUNK = max(RAMP)


def frame_bytes(talker: Talker) -> int:
    """Weights read for one frame: the predictor's layers for each further code, all else once."""
    predictor = talker.code_predictor
    passes = len(predictor.lm_head)
    talking = (*talker.model.layers, talker.model.norm, talker.codec_head, talker.text_projection)
    once = (*talking, predictor.small_to_mtp_projection, *predictor.lm_head)
    return _held(once) + passes * _held((*predictor.model.layers, predictor.model.norm))


def _held(modules: Iterable[nn.Module]) -> int:
    return sum(
        quantised_bytes(module) + sum(each.nbytes for each in module.state_dict().values())
        for module in modules
    )


class Stages:
    """The stages of a frame of ``rows`` rows in the middle of their speech, each by itself."""

    def __init__(self, model: Model, rows: int) -> None:
        self._model, self._talker, self._rows = model, model.talker, rows
        like = model.talker.codec_head.weight
        self._state = state = RowState.build(model.config.talker, rows, POSITIONS, like)
        for tensor, value in ((state.positions, PLACE), (state.limit, POSITIONS)):
            tensor.fill_(value)
        for flag in (state.active, state.closed):
            flag.fill_(True)
        for row in range(rows):
            for sampler in (state.talker_sampler, state.code_sampler):
                sampler.set(row, SamplerOptions())
        self._x = torch.randn_like(state.hidden)
        self._codec = model.codec.init_state(rows)
        self._codes = torch.zeros(rows, CHUNK, 16, dtype=torch.int64, device=like.device)

    @torch.inference_mode()
    def measured_ms(self, rounds: int) -> dict[str, float]:
        """Medians; ``frame`` is all of them but the codec, which is for one frame of a chunk."""
        told = {}
        for name, work in self._works().items():
            ms = median_ms([work], self._model.place.device, rounds)
            told[name] = round(ms / CHUNK if name == "codec" else ms, 4)
        return told

    def _works(self) -> dict[str, Work]:
        talker, state = self._talker, self._state
        ids = FrameIds.of(self._model.config)
        return {
            "talker": self._step,
            "code predictor": self._predict,
            "sampling": self._sample,
            "frame": lambda: frame(talker, state, ids, SPAN, most=SHORTLIST),
            "codec": lambda: self._model.codec.decode(self._codes, self._codec),
        }

    def _step(self) -> Tensor:
        state, talker = self._state, self._talker
        hidden = talker.step(self._x, state.positions, state.kv, state.rope, SPAN)
        scores: Tensor = talker.codec_head(hidden)
        return scores

    def _predict(self) -> None:
        """All passes and heads, without choosing."""
        predictor, buffers = self._talker.code_predictor, self._state.predictor
        hidden = predictor(self._x, self._x, buffers)
        for group, head in enumerate(predictor.lm_head, start=1):
            head(hidden[:, 0])
            if group < len(predictor.lm_head):
                hidden = predictor.step(self._x, group, buffers)

    def _sample(self) -> None:
        """All choices of a frame from given scores."""
        state, config = self._state, self._talker.config
        small = config.code_predictor
        first = self._x.new_zeros(self._rows, config.vocab_size)
        other = self._x.new_zeros(self._rows, small.vocab_size)
        sizes = [config.vocab_size] + [small.vocab_size] * (small.num_code_groups - 1)
        draw = keyed_draw(state.seeds, state.frames, sizes)
        penalised = penalise(widen(first), state.seen, state.penalty)
        choose(penalised, state.talker_sampler, 0, draw, SHORTLIST)
        for group in range(1, small.num_code_groups):
            choose(widen(other), state.code_sampler, group, draw, SHORTLIST)
