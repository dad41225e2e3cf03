"""A frame made of kernels: five launches a layer, two a code, and five for its two ends.

It shares the memory of the modules' weights. On a device that gets kernels it takes their place,
once it was seen to compute what they compute (``agreement``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vivavoce.engines.qwen3.config import CONTROL_CODES
from vivavoce.engines.qwen3.rows import RowState
from vivavoce.engines.qwen3.talker import CodePredictor, Talker
from vivavoce.errors import InputError
from vivavoce.runtime.kernels.attention import Heads, Scratch
from vivavoce.runtime.kernels.decoder import (
    FusedDecoder,
    LayerWeights,
    Place,
    norm_of,
)
from vivavoce.runtime.kernels.dispatch import Kernels
from vivavoce.runtime.kernels.frame_ends import Turn
from vivavoce.runtime.kernels.sampler import Into, Noise, Rules
from vivavoce.runtime.nn.decoder import Decoder, DecoderLayer
from vivavoce.runtime.nn.linear import Joining
from vivavoce.runtime.nn.quantize import (
    Matrix,
    QuantizedEmbedding,
    QuantizedLinear,
    WeightOnly,
)
from vivavoce.runtime.nn.weights import Weight

SPLITS = 8
"""Parts that a row's past is read in at once: its key heads alone are few programs, and each block
of a part waits for memory."""


@dataclass(frozen=True, slots=True)
class FusedTalker:
    """``frame.Passes`` for up to as many rows as ``places`` [groups + 1, B] has columns.

    ``tables`` are what the predictor reads of each further code, ``others`` [15, V, H] what the
    next frame does; they are the same where both are equally wide. ``text_table`` and ``text`` are
    the text's embeddings and the two maps behind them.
    """

    kernels: Kernels
    model: FusedDecoder
    predictor: FusedDecoder
    head: Weight
    heads: tuple[Weight, ...]
    projection: Weight | None
    text_table: Weight
    text: tuple[Weight, Weight]
    first_table: Tensor
    others: Tensor
    tables: tuple[Tensor, ...]
    places: Tensor
    scratch: Scratch

    @classmethod
    @torch.no_grad()
    def of(cls, talker: Talker, kernels: Kernels, rows: int) -> FusedTalker:
        """Of a loaded talker. Raises InputError for weights in a form of the CPU's own."""
        predictor, device = talker.code_predictor, talker.codec_head.weight.device
        model, others = _decoder(talker.model, kernels), _stacked(predictor)
        projection, tables = _projected(predictor, others)
        groups = len(predictor.lm_head) + 1
        return cls(
            kernels,
            model,
            _decoder(predictor.model, kernels),
            _weight(talker.codec_head),
            tuple(_weight(head) for head in predictor.lm_head),
            projection,
            _table(talker.model.text_embedding),
            (
                _weight(talker.text_projection.linear_fc1),
                _weight(talker.text_projection.linear_fc2),
            ),
            talker.model.codec_embedding.weight.detach(),
            others,
            tables,
            torch.arange(groups, device=device)[:, None].repeat(1, rows).contiguous(),
            Scratch.build(model.layers[0].heads, rows, SPLITS, device),
        )

    def advance(self, rows: RowState, pad: int, *, step: bool) -> Turn:
        """As ``Passes.advance``; the turn's pair has room for code 0's embeddings."""
        stepped = self._stepped(self.read(rows, pad), rows) if step else None
        pair = rows.hidden.new_empty(len(rows.hidden), 2, rows.hidden.shape[1])
        return self.kernels.settle(rows, stepped, self.model.norm, pair)

    def read(self, rows: RowState, pad: int) -> Tensor:
        """What the talker reads next [B, H]: the frame before, and text or ``pad``."""
        first, second = self.text
        text = self.kernels.next_text(rows, self.text_table, pad)
        return self.kernels.linear(
            self.kernels.linear(text, first, silu=True), second, None, rows.pending
        )

    def step(self, x: Tensor, rows: RowState) -> Tensor:
        """As ``Talker.step``; what it gives of rows that are not active is finite, and no more."""
        return self.kernels.normalize(self._stepped(x, rows), self.model.norm)

    def _stepped(self, x: Tensor, rows: RowState) -> Tensor:
        """The talker's states [B, H] before its last norm."""
        place = Place(rows.rope, rows.kv, rows.positions, rows.active, self.scratch)
        return self.model.step(x[:, None].contiguous(), place)[:, 0]

    def speak(self, rows: RowState, turn: Turn, end: int) -> None:
        """As ``Passes.speak``."""
        assert turn.pair is not None
        noise = Noise(rows.seeds, rows.frames)
        codes = rows.codes.new_empty(rows.codes.shape)
        scores = self.kernels.linear(rows.hidden, self.head)
        rules = Rules(rows.seen, rows.penalty, turn.no_end, end, scores.shape[1] - CONTROL_CODES)
        into = Into(codes, turn.pair[:, 1])
        self.kernels.sample(scores, rows.talker_sampler, noise, 0, rules, self.first_table, into)
        self._rest(rows, turn.pair, codes, noise)
        self.kernels.finish(rows, turn, codes, end, self.first_table, self.others)

    def _rest(self, rows: RowState, pair: Tensor, codes: Tensor, noise: Noise) -> None:
        """Codes 1 to 15, each into its column of ``codes`` [B, 16]."""
        state, into = self.prologue(rows, pair), Into(codes)
        for group, (head, table) in enumerate(zip(self.heads, self.tables, strict=True), start=1):
            scores = self.kernels.linear(state, head, self.predictor.norm)
            sampler = rows.code_sampler
            x = self.kernels.sample(scores, sampler, noise, group, None, table, into)[1]
            if group < len(self.heads):
                assert x is not None
                state = self.follow(x, rows, group)

    def prologue(self, rows: RowState, pair: Tensor) -> Tensor:
        """The predictor's first two tokens at once: its state [B, H'] before the last norm.

        ``pair`` [B, 2, H]: the talker's states, and code 0's embeddings.
        """
        if self.projection is not None:
            flat = self.kernels.linear(pair.flatten(0, 1), self.projection)
            pair = flat.view(*pair.shape[:2], -1)
        return self._pass(pair, rows, 0)

    def follow(self, x: Tensor, rows: RowState, group: int) -> Tensor:
        """Its state [B, H'] after one more code, whose row of a table is ``x`` [B, H']."""
        return self._pass(x[:, None], rows, group + 1)

    def _pass(self, x: Tensor, rows: RowState, position: int) -> Tensor:
        buffers, count = rows.predictor, x.shape[0]
        place = Place(buffers.rope, buffers.kv, self.places[position, :count])
        return self.predictor.step(x, place)[:, -1]


def _decoder(decoder: Decoder, kernels: Kernels) -> FusedDecoder:
    layers = []
    for layer in decoder.layers:
        assert isinstance(layer, DecoderLayer)
        layers.append(_layer(layer))
    return FusedDecoder(kernels, tuple(layers), norm_of(decoder.norm))


def _layer(layer: DecoderLayer) -> LayerWeights:
    attention, mlp, shape = layer.self_attn, layer.mlp, layer.self_attn.shape
    norms = norm_of(attention.q_norm), norm_of(attention.k_norm)
    return LayerWeights(
        Heads(shape.heads, shape.kv_heads, shape.head_dim, *norms),
        norm_of(layer.input_layernorm),
        _joined(attention),
        _weight(attention.o_proj),
        norm_of(layer.post_attention_layernorm),
        _joined(mlp),
        _weight(mlp.down_proj),
    )


def _joined(part: Joining) -> Weight:
    if part.joined is None:
        part.join()
    assert part.joined is not None
    return Weight(part.joined) if isinstance(part.joined, Tensor) else _held(part.joined)


def _weight(part: nn.Module) -> Weight:
    if isinstance(part, QuantizedLinear):
        part.prepare()
        assert part.matrix is not None
        return _held(part.matrix)
    assert isinstance(part, nn.Linear)
    bias = None if part.bias is None else part.bias.detach()
    return Weight(part.weight.detach(), bias=bias)


def _table(part: nn.Module) -> Weight:
    if isinstance(part, QuantizedEmbedding):
        return Weight(part.data, part.scale)
    assert isinstance(part, nn.Embedding)
    return Weight(part.weight.detach())


def _held(matrix: Matrix) -> Weight:
    if not isinstance(matrix, WeightOnly):
        raise InputError("These weights are packed for a CPU's own kernels.", param="quantize")
    return matrix.weight


def _stacked(predictor: CodePredictor) -> Tensor:
    """The tables of codes 1 to 15 as one [15, V, H], of which they become views."""
    tables = [table for table in predictor.model.codec_embedding if isinstance(table, nn.Embedding)]
    stacked = torch.stack([table.weight.detach() for table in tables])
    for table, view in zip(tables, stacked, strict=True):
        table.weight = nn.Parameter(view, requires_grad=False)
    return stacked


def _projected(
    predictor: CodePredictor, others: Tensor
) -> tuple[Weight | None, tuple[Tensor, ...]]:
    """Tables as wide as the predictor: what would be projected each time is projected once."""
    if isinstance(predictor.small_to_mtp_projection, nn.Identity):
        return None, tuple(others.unbind())
    made = tuple(predictor.small_to_mtp_projection(table) for table in others)
    return _weight(predictor.small_to_mtp_projection), made
