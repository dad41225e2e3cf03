"""Milliseconds of a frame by stage, and the bytes that a frame cannot do without."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn

from vivavoce.bench.engine.clock import median_ms
from vivavoce.bench.engine.setting import POSITIONS
from vivavoce.engines.qwen3.config import CONTROL_CODES
from vivavoce.engines.qwen3.frame import FrameIds, frame
from vivavoce.engines.qwen3.frame_runner import SHORTLIST
from vivavoce.engines.qwen3.fused import FusedTalker
from vivavoce.engines.qwen3.model import Model
from vivavoce.engines.qwen3.pace import RAMP
from vivavoce.engines.qwen3.rows import RowState
from vivavoce.engines.qwen3.talker import Talker, widen
from vivavoce.runtime.graphs.api import Work
from vivavoce.runtime.kernels.sampler import Noise, Rules
from vivavoce.runtime.nn.linear import quantized_bytes
from vivavoce.runtime.nn.sampling import SamplerOptions, choose, keyed_draw, penalise

PLACE, SPAN = 64, 256
"""Where the rows stand, and positions that the modules' attention reads."""

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
        quantized_bytes(module) + sum(each.nbytes for each in module.state_dict().values())
        for module in modules
    )


class Stages:
    """The stages of a frame of ``rows`` rows in the middle of their speech, each by itself.

    ``fused``: what computes them where kernels do; else the modules.
    """

    def __init__(self, model: Model, rows: int, fused: FusedTalker | None = None) -> None:
        self._model, self._talker, self._rows, self._fused = model, model.talker, rows, fused
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
        talker, state, fused = self._talker, self._state, self._fused
        ids = FrameIds.of(self._model.config)
        parts: tuple[Work, ...] = (self._step, self._predict, self._sample)
        if fused is not None:
            by = (self._step_by, self._predict_by, self._sample_by)
            parts = tuple(partial(each, fused) for each in by)
        return {
            **dict(zip(("talker", "code predictor", "sampling"), parts, strict=True)),
            "frame": lambda: frame(talker, state, ids, SPAN, draw=fused, most=SHORTLIST),
            "codec": lambda: self._model.codec.decode(self._codes, self._codec),
        }

    def _step(self) -> Tensor:
        state, talker = self._state, self._talker
        hidden = talker.step(self._x, state.positions, state.kv, state.rope, SPAN)
        scores: Tensor = talker.codec_head(hidden)
        return scores

    def _step_by(self, fused: FusedTalker) -> Tensor:
        return fused.kernels.linear(fused.step(self._x, self._state), fused.head)

    def _predict(self) -> None:
        """All passes and heads, without choosing."""
        predictor, buffers = self._talker.code_predictor, self._state.predictor
        hidden = predictor(self._x, self._x, buffers)
        for group, head in enumerate(predictor.lm_head, start=1):
            head(hidden[:, 0])
            if group < len(predictor.lm_head):
                hidden = predictor.step(self._x, group, buffers)

    def _predict_by(self, fused: FusedTalker) -> None:
        linear, norm = fused.kernels.linear, fused.predictor.norm
        state = fused.prologue(self._state, torch.stack((self._x, self._x), 1))
        for group, head in enumerate(fused.heads, start=1):
            linear(state, head, norm)
            if group < len(fused.heads):
                embedded = fused.tables[group - 1][: self._rows]
                state = fused.follow(embedded, self._state, group)

    def _scores(self) -> tuple[Tensor, Tensor, int]:
        """Of code 0 and of another, to choose from; and how many codes there are."""
        config = self._talker.config
        first = self._x.new_zeros(self._rows, config.vocab_size)
        other = self._x.new_zeros(self._rows, config.code_predictor.vocab_size)
        return first, other, config.code_predictor.num_code_groups

    def _sample(self) -> None:
        """All choices of a frame from given scores."""
        state, (first, other, groups) = self._state, self._scores()
        sizes = [first.shape[1]] + [other.shape[1]] * (groups - 1)
        draw = keyed_draw(state.seeds, state.frames, sizes)
        penalised = penalise(widen(first), state.seen, state.penalty)
        choose(penalised, state.talker_sampler, 0, draw, SHORTLIST)
        for group in range(1, groups):
            choose(widen(other), state.code_sampler, group, draw, SHORTLIST)

    def _sample_by(self, fused: FusedTalker) -> None:
        state, (first, other, groups) = self._state, self._scores()
        ids = FrameIds.of(self._model.config)
        control = first.shape[1] - CONTROL_CODES
        no_end = torch.zeros_like(state.active)
        rules = Rules(state.seen, state.penalty, no_end, ids.codec_end, control)
        noise, sample = Noise(state.seeds, state.frames), fused.kernels.sample
        sample(first, state.talker_sampler, noise, 0, rules)
        for group, table in zip(range(1, groups), fused.tables, strict=True):
            sample(other, state.code_sampler, noise, group, None, table)
