"""The distilled encoder's acoustic half: convolutions to 250 vectors a second, then causal local
attention to 50.

Names are the published ones below ``codec_encoder``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDE = 4
POOLS = (1, 5, 11, 21, 45)
EACH_POOL = 4
HEADS = 6
NO_ZERO = float(torch.finfo(torch.float32).eps)


@dataclass(frozen=True, slots=True)
class DistilledShape:
    """The published sizes; attention windows are in frames before and after compression."""

    widths: tuple[int, ...] = (32, 64, 128, 256)
    depths: tuple[int, ...] = (1, 1, 1, 2)
    hidden: int = 512
    compression: int = 5
    window: int = 300
    layers_before: int = 2
    layers_after: int = 3


class Trend(nn.Module):
    """The loudest around each sample, smoothed."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, x: Tensor) -> Tensor:
        """[B, 1, n] to the same."""
        if self.kernel == 1:
            return x
        loudest = functional.max_pool1d(x.abs(), self.kernel, 1, self.kernel // 2)
        return functional.avg_pool1d(loudest, self.kernel, 1, self.kernel // 2)


class FirstBlock(nn.Module):
    """The sound and its trends, each through a convolution, and mixed."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(Trend(pool), nn.Conv1d(1, EACH_POOL, 7, padding=3)) for pool in POOLS
        )
        inner = EACH_POOL * len(POOLS)
        self.conv_1 = nn.Conv1d(inner, 4 * inner, 1)
        self.conv_2 = nn.Conv1d(4 * inner + 1, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 1, n] to [B, width, n]."""
        trends = torch.cat([block(x) for block in self.blocks], 1)
        mixed = functional.gelu(self.conv_1(trends))
        out: Tensor = self.conv_2(torch.cat([mixed, x], 1))
        return out


class Snake(nn.Module):
    """x + sin²(alpha x) / alpha (Ziyin et al. 2020)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, 1, channels))

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, channels] to the same."""
        return x + (self.alpha * x).sin().square() / (self.alpha + NO_ZERO)


class ResponseNorm(nn.Module):
    """ConvNeXt V2's response norm (Woo et al. 2023), as published: over time and channels at once,
    which leaves little of it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, channels))
        self.beta = nn.Parameter(torch.zeros(1, channels))

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, channels] to the same."""
        size = x.square().sum((1, 2), keepdim=True).sqrt()
        return self.gamma * (x * (size / (size + NO_ZERO))) + self.beta + x


class ConvUnit(nn.Module):
    """Depth-wise convolution and a wide layer, added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.module = nn.ModuleDict(
            {
                "dw_conv": nn.Conv1d(width, width, 7, padding=3, groups=width),
                "pw_conv1": nn.Linear(width, 4 * width),
                "act": Snake(4 * width),
                "grn": ResponseNorm(4 * width),
                "pw_conv2": nn.Linear(4 * width, width),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, T] to the same."""
        unit = self.module
        y = unit["pw_conv1"](unit["dw_conv"](x).transpose(1, 2))
        out: Tensor = x + unit["pw_conv2"](unit["grn"](unit["act"](y))).transpose(1, 2)
        return out


class ConvEncoder(nn.Module):
    """Samples to vectors, 64 to one."""

    def __init__(self, shape: DistilledShape) -> None:
        super().__init__()
        widths = shape.widths
        blocks: list[nn.Module] = [FirstBlock(widths[0])]
        for width, wider, depth in zip(widths, widths[1:], shape.depths, strict=False):
            blocks.append(nn.Sequential(*(ConvUnit(width) for _ in range(depth))))
            blocks.append(nn.Sequential(nn.Conv1d(width, wider, STRIDE, STRIDE)))
        blocks.append(nn.Sequential(*(ConvUnit(widths[-1]) for _ in range(shape.depths[-1]))))
        blocks.append(nn.Conv1d(widths[-1], shape.hidden, 3, padding=1))
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 1, 64 * T] to [B, hidden, T]."""
        out: Tensor = self.blocks(x)
        return out


class DistanceBias(nn.Module):
    """What a head adds to the score of a frame so far back."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(1, inner),
            nn.SiLU(),
            nn.Linear(inner, inner),
            nn.SiLU(),
            nn.Linear(inner, HEADS),
        )

    def forward(self, reach: int) -> Tensor:
        """[heads, reach]: for 0 to ``reach`` - 1 frames back."""
        like = next(self.mlp.parameters())
        away = torch.arange(reach, device=like.device, dtype=like.dtype)
        out: Tensor = self.mlp(away[:, None]).T
        return out


class LocalAttention(nn.Module):
    """A frame sees itself, what is before it in its window, and the window before."""

    def __init__(self, hidden: int, window: int) -> None:
        super().__init__()
        inner = HEADS * (hidden // 4)
        self.window = window
        self.norm = nn.LayerNorm(hidden)
        self.to_qkv = nn.Linear(hidden, 3 * inner, bias=False)
        self.to_out = nn.Linear(inner, hidden, bias=False)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """``x`` [B, T, hidden], ``bias`` [heads, reach] by distance; [B, T, hidden]."""
        query, key, value = (
            self.to_qkv(self.norm(x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        )
        seen = [
            self._window(start, query, key, value, bias)
            for start in range(0, x.shape[1], self.window)
        ]
        out: Tensor = self.to_out(torch.cat(seen, 2).transpose(1, 2).flatten(2))
        return out

    def _window(
        self, start: int, query: Tensor, key: Tensor, value: Tensor, bias: Tensor
    ) -> Tensor:
        first, last = max(0, start - self.window), min(start + self.window, query.shape[2])
        at = torch.arange(first, last, device=query.device)
        back = at[start - first :, None] - at
        added = bias[:, back.clamp(min=0)].masked_fill(back < 0, float("-inf"))
        keys, values = key[:, :, first:last], value[:, :, first:last]
        return functional.scaled_dot_product_attention(
            query[:, :, start:last], keys, values, attn_mask=added.to(query.dtype)
        )


class GatedLayer(nn.Module):
    """Half of the input times the GELU of the other half."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., 2 * n] to [..., n]."""
        value, gate = x.chunk(2, -1)
        return value * functional.gelu(gate)


def feed_forward(hidden: int) -> nn.Sequential:
    """Norm, gated layer, linear; the fourth place is a dropout's when training."""
    inner = int(hidden * 4 * 2 / 3)
    return nn.Sequential(
        nn.LayerNorm(hidden),
        nn.Linear(hidden, 2 * inner, bias=False),
        GatedLayer(),
        nn.Identity(),
        nn.Linear(inner, hidden, bias=False),
    )


class LocalTransformer(nn.Module):
    """Layers of local attention that share one bias by distance."""

    def __init__(self, hidden: int, window: int, depth: int) -> None:
        super().__init__()
        self.window = window
        self.dynamic_pos_bias = DistanceBias(hidden // 2)
        self.layers = nn.ModuleList(
            nn.ModuleList([LocalAttention(hidden, window), feed_forward(hidden)])
            for _ in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, hidden] to the same."""
        bias = self.dynamic_pos_bias(2 * self.window)
        for pair in self.layers:
            assert isinstance(pair, nn.ModuleList)
            x = x + pair[0](x, bias)
            x = x + pair[1](x)
        return x


class DownTransformer(nn.Module):
    """Local attention, then every few frames one."""

    def __init__(self, shape: DistilledShape) -> None:
        super().__init__()
        step = shape.compression
        self.trans = LocalTransformer(shape.hidden, shape.window * step, shape.layers_before)
        self.down_layer = nn.Conv1d(shape.hidden, shape.hidden, step, step)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, hidden] to [B, T / compression, hidden]."""
        out: Tensor = self.down_layer(self.trans(x).transpose(1, 2)).transpose(1, 2)
        return out


class Compressor(nn.Module):
    """What the published names call ``en_encoder``."""

    def __init__(self, shape: DistilledShape) -> None:
        super().__init__()
        self.down_trans = DownTransformer(shape)
        self.local_trans = LocalTransformer(shape.hidden, shape.window, shape.layers_after)

    def forward(self, x: Tensor) -> Tensor:
        """[B, hidden, T] to [B, T / compression, hidden]."""
        out: Tensor = self.local_trans(self.down_trans(x.transpose(1, 2)))
        return out


class DistilledAcoustic(nn.Module):
    """Samples to 50 vectors a second."""

    def __init__(self, shape: DistilledShape) -> None:
        super().__init__()
        self.encoder = ConvEncoder(shape)
        self.en_encoder = Compressor(shape)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 1, 320 * T] to [B, T, hidden]."""
        out: Tensor = self.en_encoder(self.encoder(x))
        return out
