"""The talker: text and codes in, hidden states out, one position per frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vivavoce.engines.qwen3.code_predictor import CodePredictor, decoder_shape
from vivavoce.engines.qwen3.config import TalkerConfig
from vivavoce.runtime.nn.decoder import Decoder
from vivavoce.runtime.nn.kv import KVBuffer, Placement
from vivavoce.runtime.nn.linear import Linear
from vivavoce.runtime.nn.rope import RopeTable


class TalkerDecoder(Decoder):
    """The talker's layers and its two embedding tables."""

    def __init__(self, config: TalkerConfig) -> None:
        super().__init__(decoder_shape(config))
        self.text_embedding = nn.Embedding(config.text_vocab_size, config.text_hidden_size)
        self.codec_embedding = nn.Embedding(config.vocab_size, config.hidden_size)


class TextProjection(nn.Module):
    """From the width of text embeddings to the talker's."""

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.linear_fc1 = nn.Linear(size, size)
        self.linear_fc2 = nn.Linear(size, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """[..., size] to [..., hidden]."""
        out: Tensor = self.linear_fc2(functional.silu(self.linear_fc1(x)))
        return out


class Talker(nn.Module):
    """All weights under ``talker.`` of a checkpoint, by their published names."""

    def __init__(self, config: TalkerConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.config = config
        self.model = TalkerDecoder(config)
        self.text_projection = TextProjection(config.text_hidden_size, hidden)
        self.codec_head = Linear(hidden, config.vocab_size)
        self.code_predictor = CodePredictor(config.code_predictor, hidden)

    def join(self) -> None:
        """Compute maps of one input as one, after loading; see ``layers.linear``."""
        self.model.join()
        self.code_predictor.model.join()

    def embed_text(self, ids: Tensor) -> Tensor:
        """Text token ids, any shape, to [..., hidden]."""
        projected: Tensor = self.text_projection(self.model.text_embedding(ids))
        return projected

    def embed_code(self, ids: Tensor) -> Tensor:
        """Ids of the talker's own vocabulary (code 0 and control), any shape, to [..., hidden]."""
        embedded: Tensor = self.model.codec_embedding(ids)
        return embedded

    def embed_frames(self, codes: Tensor) -> Tensor:
        """Whole frames [T, 16] to the sums of their codes' embeddings [T, hidden]."""
        parts = [self.embed_code(codes[:, 0])]
        for group in range(1, codes.shape[1]):
            parts.append(self.code_predictor.embed(group, codes[:, group]))
        return torch.stack(parts, 1).sum(1)

    def step(
        self, x: Tensor, positions: Tensor, kv: KVBuffer, rope: RopeTable, span: int
    ) -> Tensor:
        """One position per row: ``x`` [B, hidden], ``positions`` [B]; hidden states [B, hidden].

        ``span`` (positions looked at, over every row's position) only bounds the work.
        """
        at = Placement.each(rope, positions[:, None], span)
        out: Tensor = self.model(x[:, None], at, kv)
        return out[:, 0]

    def prefill(
        self, x: Tensor, lengths: Tensor, kv: KVBuffer, rope: RopeTable, start: int = 0
    ) -> Tensor:
        """A prompt per row into ``kv``: the hidden states [B, hidden] of the last of ``lengths``.

        ``x`` [B, N, hidden] may be padded at its end: no earlier position sees the padding, and
        what it leaves in ``kv`` lies behind the row's length. ``start`` positions are in ``kv``
        already.
        """
        at = Placement.alike(rope, start, start + x.shape[1])
        out: Tensor = self.model(x, at, kv)
        return out[torch.arange(x.shape[0], device=x.device), lengths - 1]
