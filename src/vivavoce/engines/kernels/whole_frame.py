"""What ``frame_triton`` is launched with: a code predictor's weights by their addresses, and room.

Needs Triton, and a launch whose programs all run at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vivavoce.engines.kernels import attention_triton, frame_triton, linear_triton, sampler_triton
from vivavoce.engines.kernels.decoder import AT_ONCE, FusedDecoder, LayerWeights, Steps
from vivavoce.engines.kernels.grid_barrier import COUNTERS
from vivavoce.engines.kernels.linear import Norm
from vivavoce.engines.kernels.tiles import SMALL, choose_tile
from vivavoce.engines.layers.kv import KVBuffer
from vivavoce.engines.layers.weights import Weight
from vivavoce.errors import InputError

PROGRAMS = 2
"""Programs of a multiprocessor. More than run at once are refused by the launch."""

WARPS = 4
ALIGNED_BYTES = 16


@dataclass(frozen=True, slots=True)
class WholeFrame:
    """A code predictor's T tokens in one launch: two that are given, and a code after each but
    the first.

    ``layers``, ``heads`` and ``tables`` hold addresses; ``held`` are the tensors that lie there.
    """

    decoder: FusedDecoder
    held: tuple[tuple[Weight, ...], tuple[Tensor, ...]]
    layers: Tensor
    heads: Tensor
    tables: Tensor
    barrier: Tensor
    programs: int

    @classmethod
    def of(
        cls, decoder: FusedDecoder, heads: Sequence[Weight], tables: Sequence[Tensor], programs: int
    ) -> WholeFrame:
        """Of a decoder's own memory. Raises InputError where weights are not all of one kind, or
        not aligned.
        """
        layers, device = decoder.layers, decoder.norm.weight.device
        matrices = [each for layer in layers for each in _matrices(layer)] + list(heads)
        _refuse_unlike(matrices)
        return cls(
            decoder,
            (tuple(heads), tuple(tables)),
            _on(device, [_layer_addresses(layer) for layer in layers]),
            _on(device, [_address(head) for head in heads]),
            _on(device, [[table.data_ptr()] for table in tables]),
            torch.zeros(COUNTERS, dtype=torch.int32, device=device),
            programs,
        )

    def run(self, tokens: Tensor, first: Tensor, steps: Steps) -> Tensor:
        """``tokens`` [2, B, H] and code 0 [B] to all codes, int64 [B, T]; fills keys and values.

        Raises InputError for more rows than ``AT_ONCE``.
        """
        how = self.plan(tokens.shape[1], steps.kv)
        at = self._operands(tokens, first, steps, how)
        launch = frame_triton.frame_kernel[(self.programs,)]
        launch(at, how, num_warps=WARPS, launch_cooperative_grid=True)
        return at.codes

    def plan(self, rows: int, kv: KVBuffer) -> frame_triton.FramePlan:
        """How to compute it for so many rows."""
        if not 0 < rows <= AT_ONCE:
            raise InputError(f"One launch takes 1 to {AT_ONCE} rows, not {rows}.", param="rows")
        layer, (heads, tables) = self.decoder.layers[0], self.held
        between, last = layer.between.eps, self.decoder.norm.eps
        vocabulary, hidden = heads[0].data.shape
        assert tables[0].shape == (vocabulary, hidden)
        return frame_triton.FramePlan(
            tokens=len(heads) + 1,
            layers=len(self.decoder.layers),
            stride=kv.keys.stride(0),
            qkv=_plan(rows, layer.qkv, layer.before.eps),
            out=_plan(rows, layer.out, 0.0),
            gate=_plan(rows, layer.gate_up, between, gated=True),
            down=_plan(rows, layer.down, 0.0),
            head=_plan(rows, heads[0], last),
            attention=_attention(layer, kv),
            sampler=sampler_triton.Plan(vocabulary, -1, vocabulary, hidden),
        )

    def _operands(
        self, tokens: Tensor, first: Tensor, steps: Steps, how: frame_triton.FramePlan
    ) -> frame_triton.FrameOperands:
        layer, sampler = self.decoder.layers[0], steps.sampler
        rows, hidden = tokens.shape[1:]
        codes = first.new_empty(rows, how.tokens)
        codes[:, 0] = first
        x = tokens.new_empty(how.tokens + 1, rows, hidden)
        x[:2] = tokens
        return frame_triton.FrameOperands(
            layers=self.layers,
            heads=self.heads,
            tables=self.tables,
            weight=layer.qkv.data,
            scale=layer.qkv.scale,
            norm=self.decoder.norm.weight,
            x=x,
            qkv=x.new_empty(rows, how.qkv.n),
            mixed=x.new_empty(rows, how.out.k),
            gated=x.new_empty(rows, how.gate.n),
            scores=x.new_empty(rows, how.head.n),
            key_store=steps.kv.keys,
            value_store=steps.kv.values,
            cos=steps.rope.cos,
            sin=steps.rope.sin,
            greedy=sampler.greedy,
            temperature=sampler.temperature,
            top_k=sampler.top_k,
            tail=sampler.tail,
            seeds=steps.noise.seeds,
            counters=steps.noise.counters,
            codes=codes,
            barrier=self.barrier,
        )


def _matrices(layer: LayerWeights) -> tuple[Weight, Weight, Weight, Weight]:
    return layer.qkv, layer.out, layer.gate_up, layer.down


def _refuse_unlike(matrices: Sequence[Weight]) -> None:
    kinds = {(each.data.dtype, each.scale is None) for each in matrices}
    if len(kinds) > 1 or any(each.bias is not None for each in matrices):
        raise InputError("One launch takes weights of one kind, without biases.", param="quantize")


def _on(device: torch.device, addresses: Sequence[Sequence[int]]) -> Tensor:
    """Addresses as the kernel reads them, which takes 16 bytes at a time from there."""
    if any(place % ALIGNED_BYTES for line in addresses for place in line):
        raise InputError(f"One launch takes weights aligned to {ALIGNED_BYTES} bytes.")
    return torch.tensor(addresses, dtype=torch.int64, device=device)


def _address(weight: Weight) -> tuple[int, int]:
    """Of the matrix and its scales; both contiguous. 0 for none."""
    assert weight.data.is_contiguous()
    return weight.data.data_ptr(), 0 if weight.scale is None else weight.scale.data_ptr()


def _layer_addresses(layer: LayerWeights) -> list[int]:
    norms: tuple[Norm, ...] = (
        layer.before,
        layer.heads.q_norm,
        layer.heads.k_norm,
        layer.between,
    )
    found = [place for each in _matrices(layer) for place in _address(each)]
    return found + [each.weight.data_ptr() for each in norms]


def _plan(rows: int, weight: Weight, eps: float, *, gated: bool = False) -> linear_triton.Plan:
    n, k = weight.data.shape
    n = n // 2 if gated else n
    tile = choose_tile(rows, n, k, weight.data.itemsize, gated=gated, most=SMALL)
    return linear_triton.Plan(rows, n, k, eps, gated, tile)


def _attention(layer: LayerWeights, kv: KVBuffer) -> attention_triton.Plan:
    heads, stored = layer.heads, kv.keys.shape[3]
    return attention_triton.Plan(
        heads=heads.heads,
        kv_heads=heads.kv_heads,
        size=heads.size,
        steps=1,
        stored=stored,
        part=stored,
        splits=1,
        block=attention_triton.block_of(stored),
        eps=heads.q_norm.eps,
    )
