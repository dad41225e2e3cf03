"""Codes to sound, as a stream: any way of cutting the codes into chunks gives the same samples.

All layers are causal, so nothing is held back: T frames give T * 1920 samples at once.
"""

from __future__ import annotations

from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vivavoce.engines.qwen3.codec.carry import (
    Carry,
    CausalConv1d,
    CausalTransposedConv1d,
    carried_shapes,
    name_places,
)
from vivavoce.engines.qwen3.codec.quantizer import CodeTables
from vivavoce.engines.qwen3.codec.state import DecoderState
from vivavoce.engines.qwen3.codec.transformer import (
    FrameTransformer,
    WindowAttention,
    open_window,
)
from vivavoce.engines.qwen3.codec.waveform import SnakeBeta, upsample_stages, waveform_stages
from vivavoce.engines.qwen3.codec_config import CodecDecoderConfig

if TYPE_CHECKING:
    from vivavoce.engines.qwen3.checkpoint import Checkpoint

MAX_FRAMES = 12
PREFIX = "codec.decoder."


class CodecDecoder(nn.Module):
    """The decoder; parameters are named as below ``decoder.`` in the published file.

    The codebooks are no parameters: ``tables`` holds them multiplied out.
    """

    def __init__(self, config: CodecDecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.tables = CodeTables(config.num_quantizers, config.codebook_size, config.codebook_dim)
        self.pre_conv = CausalConv1d(config.codebook_dim, config.latent_dim, 3)
        self.pre_transformer = FrameTransformer(config)
        self.upsample = upsample_stages(config)
        self.decoder = waveform_stages(config)
        name_places(self)
        self.requires_grad_(False)

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return self.tables.table.dtype

    def fold(self) -> None:
        """Compute what depends on the parameters alone; after loading and before use."""
        for layer in self.modules():
            if isinstance(layer, SnakeBeta | CausalTransposedConv1d):
                layer.fold()

    def init_state(
        self,
        batch: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        max_frames: int = MAX_FRAMES,
    ) -> DecoderState:
        """``batch`` streams at their beginning, on the decoder's device and in its dtype.

        ``max_frames`` is the longest chunk that one pass decodes: it costs a row memory.
        """
        device = self.tables.table.device if device is None else device
        carried = {
            name: torch.zeros(batch, *shape, device=device, dtype=dtype or self.dtype)
            for name, shape in self._shapes(max_frames).items()
        }
        positions = torch.zeros(batch, dtype=torch.int64, device=device)
        invalid = torch.zeros(batch, dtype=torch.bool, device=device)
        return DecoderState(positions, invalid, carried, max_frames)

    def row_bytes(self, dtype: torch.dtype | None = None, *, max_frames: int = MAX_FRAMES) -> int:
        """Memory that one row of state takes, without making one."""
        elements = sum(torch.Size(shape).numel() for shape in self._shapes(max_frames).values())
        return elements * (dtype or self.dtype).itemsize + torch.int64.itemsize + 1

    def decode(self, codes: Tensor, state: DecoderState, active: Tensor | None = None) -> Tensor:
        """The next ``codes`` [B, T, groups] int64, T ≥ 1, of every row to samples [B, T * 1920].

        Samples are float32 (float64 of a float64 decoder) in [-1, 1]. ``state`` goes on in place;
        rows for which ``active`` [B] bool is False keep their state and give zeros. Shapes depend
        on B and T alone and the host is never waited for, so a call can be captured or compiled
        for each (B, T). A row with a code outside the codebook is marked in ``state.invalid``:
        its sound is not to be used. ``check_codes`` is the check for codes on the host.
        """
        carry = Carry(state.carried, active)
        passes = _passes(codes, state.max_frames)
        parts = [self._sound(self._latents(part, state, carry), carry) for part in passes]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def prime(self, codes: Tensor, *, max_frames: int = MAX_FRAMES) -> DecoderState:
        """A stream of one row that has spoken ``codes`` [N, groups], N ≥ 1, to be copied.

        Equals decoding them, for less: their sound is not made beyond what the next frame hears.
        """
        state = self.init_state(1, max_frames=max_frames)
        carry = Carry(state.carried)
        passes = _passes(codes[None].to(state.positions.device), max_frames)
        latents = torch.cat([self._latents(part, state, carry) for part in passes], -1)
        self._sound(latents[..., -self.hearing_frames :], carry)
        return state

    @property
    def hearing_frames(self) -> int:
        """How many of the transformer's frames all that the convolutions carry depends on."""
        needed = 0  # trailing outputs of a layer, from the last layer to the first
        for layer in reversed([*self.upsample.modules(), *self.decoder.modules()]):
            if isinstance(layer, CausalConv1d):
                needed += layer.reach
            elif isinstance(layer, CausalTransposedConv1d):
                needed = ceil(needed / layer.stride) + ceil(layer.overlap / layer.stride)
        return needed

    def _sound(self, x: Tensor, carry: Carry) -> Tensor:
        """Latents [B, latent, T] to samples [B, T * 1920]."""
        for layer in (*self.upsample, *self.decoder):
            x = layer(x) if isinstance(layer, SnakeBeta) else layer(x, carry)
        samples = x[:, 0].to(torch.promote_types(x.dtype, torch.float32)).clamp(-1.0, 1.0)
        return carry.chosen(samples, torch.zeros_like(samples))

    def _latents(self, codes: Tensor, state: DecoderState, carry: Carry) -> Tensor:
        """Codes [B, T, groups] to latents [B, latent, T]; moves the rows on."""
        frames = codes.shape[1]
        slots = self.config.sliding_window - 1 + state.max_frames
        window = open_window(state.positions, frames, slots, self.config, self.dtype)
        x, wrong = self.tables(codes)
        x = self.pre_conv(x.transpose(1, 2), carry).transpose(1, 2)
        x = self.pre_transformer(x, window, carry).transpose(1, 2)
        state.positions.copy_(carry.chosen(state.positions + frames, state.positions))
        state.invalid.copy_(carry.chosen(state.invalid | wrong, state.invalid))
        return x

    def _shapes(self, max_frames: int) -> dict[str, tuple[int, ...]]:
        """What a row carries; a ring of keys or values has room for one chunk more."""
        shapes = carried_shapes(self)
        for layer in self.modules():
            if isinstance(layer, WindowAttention):
                for last, (heads, back, size) in layer.carried().items():
                    shapes[f"{layer.place}.{last}"] = (heads, back + max_frames, size)
        return shapes


def _passes(codes: Tensor, max_frames: int) -> list[Tensor]:
    cuts = [*range(0, codes.shape[1], max_frames), codes.shape[1]]
    return [codes[:, start:stop] for start, stop in pairwise(cuts)]


def load_decoder(
    checkpoint: Checkpoint,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> CodecDecoder:
    """The decoder of a checkpoint, ready to use. Raises ModelFileError."""
    with torch.device("meta"):
        decoder = CodecDecoder(checkpoint.config.codec.decoder)
    checkpoint.load_into(
        decoder,
        PREFIX,
        dtype=dtype,
        device=device,
        unused=lambda name: name.startswith("quantizer."),
    )
    decoder.tables.fill(
        checkpoint.decoder_codebooks(),
        checkpoint.tensor(f"{PREFIX}quantizer.rvq_first.output_proj.weight"),
        checkpoint.tensor(f"{PREFIX}quantizer.rvq_rest.output_proj.weight"),
    )
    decoder.tables.to(device=device, dtype=dtype)
    decoder.fold()
    return decoder.eval()
