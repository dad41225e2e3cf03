"""The code predictor: codes 1 to 15 of a frame from the talker's hidden state and code 0."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vivavoce.engines.qwen3.config import CodePredictorConfig, TalkerConfig
from vivavoce.runtime.nn.decoder import Decoder, DecoderShape
from vivavoce.runtime.nn.kv import KVBuffer, Placement
from vivavoce.runtime.nn.linear import Linear
from vivavoce.runtime.nn.rope import RopeTable
from vivavoce.runtime.nn.sampling import Draw, SamplerRows, choose


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
