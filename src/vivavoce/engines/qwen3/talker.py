"""The talker: text and codes in, hidden states out, one position per frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vivavoce.engines.qwen3.config import CodePredictorConfig, TalkerConfig
from vivavoce.runtime.nn.decoder import Decoder, DecoderShape
from vivavoce.runtime.nn.kv import KVBuffer, Placement
from vivavoce.runtime.nn.linear import Linear
from vivavoce.runtime.nn.rope import RopeTable
from vivavoce.runtime.nn.sampling import Draw, SamplerRows, choose


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


def decoder_shape(config: TalkerConfig | CodePredictorConfig) -> DecoderShape:
    """The sizes of a decoder stack, as ``layers`` takes them."""
    return DecoderShape(
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        norm_eps=config.rms_norm_eps,
    )


@dataclass(frozen=True, slots=True)
class PredictorBuffers:
    """The scratch of B rows, used afresh in each frame: one position per code group."""

    kv: KVBuffer
    rope: RopeTable

    @classmethod
    def build(cls, config: CodePredictorConfig, rows: int, like: Tensor) -> PredictorBuffers:
        """Buffers of the dtype and device of ``like``."""
        groups = config.num_code_groups
        kv = KVBuffer.zeros(decoder_shape(config).kv_shape(rows, groups), like)
        rope = RopeTable.build(groups, config.head_dim, config.rope_theta, like)
        return cls(kv, rope)

    def rows(self, start: int, stop: int) -> PredictorBuffers:
        """A view of some rows, sharing memory."""
        return PredictorBuffers(self.kv.rows(start, stop), self.rope)


class PredictorDecoder(Decoder):
    """The predictor's layers and its embeddings, one table for each of codes 1 to 15."""

    def __init__(self, config: CodePredictorConfig, talker_hidden: int) -> None:
        super().__init__(decoder_shape(config))
        self.codec_embedding = nn.ModuleList(
            nn.Embedding(config.vocab_size, talker_hidden)
            for _ in range(config.num_code_groups - 1)
        )


class CodePredictor(nn.Module):
    """A small decoder that runs over the groups of one frame."""

    def __init__(self, config: CodePredictorConfig, talker_hidden: int) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.model = PredictorDecoder(config, talker_hidden)
        self.lm_head = nn.ModuleList(
            Linear(hidden, config.vocab_size) for _ in range(config.num_code_groups - 1)
        )
        self.small_to_mtp_projection: nn.Module = nn.Identity()
        if hidden != talker_hidden:
            self.small_to_mtp_projection = nn.Linear(talker_hidden, hidden)

    def embed(self, group: int, codes: Tensor) -> Tensor:
        """Codes of ``group`` (1..15), any shape, to [..., talker_hidden]."""
        embedded: Tensor = self.model.codec_embedding[group - 1](codes)
        return embedded

    def forward(self, hidden: Tensor, first: Tensor, buffers: PredictorBuffers) -> Tensor:
        """Hidden states [B, 1, hidden] after the talker's state and code 0's embedding.

        ``hidden`` and ``first``: [B, talker_hidden].
        """
        x = self.small_to_mtp_projection(torch.stack((hidden, first), 1))
        at = Placement.alike(buffers.rope, 0, 2)
        out: Tensor = self.model(x, at, buffers.kv)
        return out[:, -1:]

    def step(self, embedded: Tensor, group: int, buffers: PredictorBuffers) -> Tensor:
        """Hidden states [B, 1, hidden] after the embedding [B, talker_hidden] of one more code."""
        x = self.small_to_mtp_projection(embedded[:, None])
        at = Placement.alike(buffers.rope, group + 1, group + 2)
        out: Tensor = self.model(x, at, buffers.kv)
        return out

    def predict(
        self,
        hidden: Tensor,
        first: Tensor,
        buffers: PredictorBuffers,
        sampler: SamplerRows,
        draw: Draw,
        most: int = 0,
    ) -> tuple[Tensor, list[Tensor]]:
        """Codes 1..15, int64 [B, 15], and their 15 embeddings [B, talker_hidden].

        ``most``: see ``sampling.restrict``.
        """
        state = self(hidden, first, buffers)
        codes: list[Tensor] = []
        embeddings: list[Tensor] = []
        for group, head in enumerate(self.lm_head, start=1):
            codes.append(choose(widen(head(state[:, 0])), sampler, group, draw, most))
            embeddings.append(self.embed(group, codes[-1]))
            if group < len(self.lm_head):
                state = self.step(embeddings[-1], group, buffers)
        return torch.stack(codes, 1), embeddings


def widen(scores: Tensor) -> Tensor:
    """Scores in float32 at least, as sampling expects."""
    return scores.to(torch.promote_types(scores.dtype, torch.float32))
