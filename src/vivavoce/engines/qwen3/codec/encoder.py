"""Sound to codes (Mimi, Défossez et al. 2024): used once for every reference recording.

The convolutions run over the recording in pieces, with what they carry between them, so that
memory does not grow with its length; the transformer attends to all that was before, as the
published model does in fact (its configured window is not applied there).
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from vivavoce.engines.qwen3.codec.carry import (
    Carry,
    CausalConv1d,
    carried_shapes,
    name_places,
)
from vivavoce.engines.qwen3.codec.quantizer import nearest_codes
from vivavoce.engines.qwen3.codec.transformer import LayerScale, rope_at
from vivavoce.engines.qwen3.codec_config import CodecConfig, CodecEncoderConfig
from vivavoce.runtime.nn.rope import rotate

if TYPE_CHECKING:
    from vivavoce.engines.qwen3.checkpoint import Checkpoint

PREFIX = "codec.encoder."
PIECE_FRAMES = 50
"""Frames of the transformer (25 Hz) that the convolutions make at a time."""


class ResidualBlock(nn.Module):
    """Two convolutions, the first to fewer channels, added to the input."""

    def __init__(self, width: int, config: CodecEncoderConfig) -> None:
        super().__init__()
        inner = width // config.compress
        first = CausalConv1d(width, inner, config.residual_kernel_size)
        self.block = nn.ModuleList([nn.ELU(), first, nn.ELU(), CausalConv1d(inner, width, 1)])

    def forward(self, x: Tensor, carry: Carry) -> Tensor:
        """``x`` [B, width, T] to the same shape."""
        return x + _through(self.block, x, carry)


class Convolutions(nn.Module):
    """Samples [B, channels, L] to latents [B, hidden, ceil(L / 960)]."""

    def __init__(self, config: CodecEncoderConfig) -> None:
        super().__init__()
        width = config.num_filters
        layers: list[nn.Module] = [CausalConv1d(config.audio_channels, width, config.kernel_size)]
        for ratio in reversed(config.upsampling_ratios):
            down = CausalConv1d(width, 2 * width, 2 * ratio, stride=ratio)
            layers += [ResidualBlock(width, config), nn.ELU(), down]
            width *= 2
        last = CausalConv1d(width, config.hidden_size, config.last_kernel_size)
        self.layers = nn.ModuleList([*layers, nn.ELU(), last])

    def forward(self, x: Tensor, carry: Carry) -> Tensor:
        """One piece of the stream."""
        return _through(self.layers, x, carry)


class SelfAttention(nn.Module):
    """Causal attention over everything that was before."""

    def __init__(self, config: CodecEncoderConfig) -> None:
        super().__init__()
        inner = config.num_attention_heads * config.head_dim
        kv = config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, inner, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, kv, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, kv, bias=False)
        self.o_proj = nn.Linear(inner, config.hidden_size, bias=False)
        self.head_dim = config.head_dim
        self.grouped = config.num_key_value_heads != config.num_attention_heads

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """``x`` [B, T, hidden] to the same shape."""
        query = rotate(self._heads(self.q_proj(x)), cos, sin)
        key = rotate(self._heads(self.k_proj(x)), cos, sin)
        value = self._heads(self.v_proj(x))
        mixed = functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, enable_gqa=self.grouped
        )
        out: Tensor = self.o_proj(mixed.transpose(1, 2).flatten(2))
        return out

    def _heads(self, x: Tensor) -> Tensor:
        rows, steps = x.shape[:2]
        return x.view(rows, steps, -1, self.head_dim).transpose(1, 2)


class Mlp(nn.Module):
    """Two linear layers around a GELU."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner, bias=False)
        self.fc2 = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [..., width] to the same shape."""
        out: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return out


class EncoderLayer(nn.Module):
    """Attention and MLP, each normalized, scaled and added."""

    def __init__(self, config: CodecEncoderConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.self_attn = SelfAttention(config)
        self.mlp = Mlp(width, config.intermediate_size)
        self.input_layernorm = nn.LayerNorm(width, eps=config.norm_eps)
        self.post_attention_layernorm = nn.LayerNorm(width, eps=config.norm_eps)
        self.self_attn_layer_scale = LayerScale(width)
        self.mlp_layer_scale = LayerScale(width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """``x`` [B, T, hidden] to the same shape."""
        x = x + self.self_attn_layer_scale(self.self_attn(self.input_layernorm(x), cos, sin))
        out: Tensor = x + self.mlp_layer_scale(self.mlp(self.post_attention_layernorm(x)))
        return out


class EncoderTransformer(nn.Module):
    """A stack of layers; no final norm."""

    def __init__(self, config: CodecEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_hidden_layers))

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [B, T, hidden] to the same shape."""
        at = torch.arange(x.shape[1], device=x.device)[None]
        cos, sin = rope_at(at, self.config.head_dim, self.config.rope_theta, x.dtype)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return x


class Downsample(nn.Module):
    """From the transformer's rate to the frame rate; the ends are repeated, not zero."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, 2 * stride, stride=stride, bias=False)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [B, width, T] to [B, width, ceil(T / stride)]."""
        ends = (self.stride, -x.shape[-1] % self.stride)
        out: Tensor = self.conv(functional.pad(x, ends, mode="replicate"))
        return out


class InputProjections(nn.Module):
    """What the semantic and the acoustic codebooks each see of the same latent."""

    def __init__(self, config: CodecEncoderConfig) -> None:
        super().__init__()
        for kind in ("semantic", "acoustic"):
            inner = config.vector_quantization_hidden_dimension
            project = nn.Conv1d(config.hidden_size, inner, 1, bias=False)
            name = f"{kind}_residual_vector_quantizer"
            self.add_module(name, nn.ModuleDict({"input_proj": project}))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``x`` [B, hidden, T] to two [B, T, dim]."""
        semantic, acoustic = (part["input_proj"](x) for part in self.children())  # type: ignore[index]
        return semantic.transpose(1, 2), acoustic.transpose(1, 2)


class CodecEncoder(nn.Module):
    """The encoder; parameters are named as below ``encoder.`` in the published file."""

    books: Tensor

    def __init__(self, codec: CodecConfig) -> None:
        super().__init__()
        config = codec.encoder
        self.groups = codec.encoder_valid_num_quantizers
        self.samples_per_frame = codec.encode_downsample_rate
        self.sample_rate_hz = codec.input_sample_rate
        self.piece = PIECE_FRAMES * self.samples_per_frame // config.downsample_stride
        self.encoder = Convolutions(config)
        self.encoder_transformer = EncoderTransformer(config)
        self.downsample = Downsample(config.hidden_size, config.downsample_stride)
        self.quantizer = InputProjections(config)
        empty = torch.zeros(self.groups, config.codebook_size, config.codebook_dim)
        self.register_buffer("books", empty, persistent=False)
        name_places(self)
        self.requires_grad_(False)

    def encode(self, samples: Tensor) -> Tensor:
        """Mono samples [L] at 24 kHz, L > 0, to codes int64 [ceil(L / 1920), groups].

        They are computed in the encoder's dtype; the last frame is completed with zeros.
        """
        latents = self._latents(samples.to(self.books)[None, None])
        latents = self.encoder_transformer(latents.transpose(1, 2)).transpose(1, 2)
        semantic, acoustic = self.quantizer(self.downsample(latents))
        codes = (
            nearest_codes(semantic[0], self.books[:1]),
            nearest_codes(acoustic[0], self.books[1:]),
        )
        return torch.cat(codes, 1)[: ceil(len(samples) / self.samples_per_frame)]

    def _latents(self, samples: Tensor) -> Tensor:
        held = {
            place: samples.new_zeros(1, *shape) for place, shape in carried_shapes(self).items()
        }
        starts = range(0, samples.shape[-1], self.piece)
        pieces = (samples[..., start : start + self.piece] for start in starts)
        return torch.cat([self.encoder(piece, Carry(held)) for piece in pieces], -1)


def load_encoder(
    checkpoint: Checkpoint,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> CodecEncoder:
    """The encoder of a checkpoint, ready to use. Raises ModelFileError."""
    with torch.device("meta"):
        encoder = CodecEncoder(checkpoint.config.codec)
    checkpoint.load_into(encoder, PREFIX, dtype=dtype, device=device, unused=_not_needed)
    encoder.books = checkpoint.encoder_codebooks().to(device=device, dtype=dtype)
    return encoder.eval()


def _not_needed(name: str) -> bool:
    """The codebooks are read for themselves, output projections serve training only."""
    return name.startswith("quantizer.") and not name.endswith("input_proj.weight")


def _through(layers: nn.ModuleList, x: Tensor, carry: Carry) -> Tensor:
    for layer in layers:
        x = layer(x) if isinstance(layer, nn.ELU) else layer(x, carry)
    return x
