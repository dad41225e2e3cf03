"""What speech_tokenizer/config.json says of the 12.5 Hz codec.

Fields are named as the keys they are read from; every key is required.
``semantic_codebook_size`` is left out on purpose: no tensor has that size.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

from vivavoce.runtime.json_config import JsonObject

TOKENIZER_TYPE = "qwen3_tts_tokenizer_12hz"


@dataclass(frozen=True, slots=True)
class CodecDecoderConfig:
    """Codes to sound. Codebook vectors have ``codebook_dim // 2`` elements."""

    codebook_size: int
    codebook_dim: int
    num_quantizers: int
    num_semantic_quantizers: int
    latent_dim: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    sliding_window: int
    rms_norm_eps: float
    rope_theta: float
    decoder_dim: int
    upsampling_ratios: tuple[int, ...]
    upsample_rates: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CodecEncoderConfig:
    """Sound to codes (Mimi). ``upsampling_ratios`` are walked from the last to the first."""

    sampling_rate: int
    audio_channels: int
    num_filters: int
    kernel_size: int
    last_kernel_size: int
    residual_kernel_size: int
    num_residual_layers: int
    compress: int
    upsampling_ratios: tuple[int, ...]
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    norm_eps: float
    rope_theta: float
    codebook_size: int
    codebook_dim: int
    vector_quantization_hidden_dimension: int
    num_quantizers: int
    num_semantic_quantizers: int
    frame_rate_hz: float

    @property
    def downsample_stride(self) -> int:
        """From the convolutions' rate (25 Hz) to the frame rate."""
        return int(self.sampling_rate / prod(self.upsampling_ratios) / self.frame_rate_hz)


@dataclass(frozen=True, slots=True)
class CodecConfig:
    """The whole codec; rates in Hz, ``samples_per_frame`` is 1920 in the published one."""

    input_sample_rate: int
    output_sample_rate: int
    decode_upsample_rate: int
    encode_downsample_rate: int
    encoder_valid_num_quantizers: int
    decoder: CodecDecoderConfig
    encoder: CodecEncoderConfig

    @property
    def samples_per_frame(self) -> int:
        """Output samples that one frame of codes becomes."""
        return self.decode_upsample_rate

    @classmethod
    def load(cls, folder: Path) -> CodecConfig:
        """Read ``folder``/config.json. Raises ModelFileError that names the file and the key."""
        file = JsonObject.read(folder / "config.json")
        file.demand("model_type", TOKENIZER_TYPE)
        config = file.into(
            cls,
            decoder=_decoder(file.child("decoder_config")),
            encoder=_encoder(file.child("encoder_config")),
        )
        _check_rates(file, config)
        return config


def _decoder(values: JsonObject) -> CodecDecoderConfig:
    values.demand("hidden_act", "silu")
    values.demand("attention_bias", False)
    values.demand("num_semantic_quantizers", 1)
    values.demand_positive("sliding_window", "num_hidden_layers", "head_dim", "num_quantizers")
    return values.into(CodecDecoderConfig)


def _encoder(values: JsonObject) -> CodecEncoderConfig:
    values.demand("hidden_act", "gelu")
    values.demand("attention_bias", False)
    values.demand("use_causal_conv", True)
    values.demand("use_conv_shortcut", False)
    values.demand("num_residual_layers", 1)
    values.demand("num_semantic_quantizers", 1)
    values.demand("pad_mode", "constant")
    rate_hz = values.get("_frame_rate", float)
    if rate_hz <= 0:
        raise values.fault("_frame_rate", "is not above zero")
    return values.into(CodecEncoderConfig, frame_rate_hz=rate_hz)


def _check_rates(file: JsonObject, config: CodecConfig) -> None:
    decoder, encoder = config.decoder, config.encoder
    upsampled = prod(decoder.upsample_rates) * prod(decoder.upsampling_ratios)
    if upsampled != config.decode_upsample_rate:
        raise file.fault("decode_upsample_rate", f"is not the decoder's {upsampled}")
    downsampled = prod(encoder.upsampling_ratios) * encoder.downsample_stride
    if downsampled != config.encode_downsample_rate:
        raise file.fault("encode_downsample_rate", f"is not the encoder's {downsampled}")
    if config.encoder_valid_num_quantizers != decoder.num_quantizers:
        raise file.fault("encoder_valid_num_quantizers", f"is not {decoder.num_quantizers}")
    if encoder.num_quantizers < decoder.num_quantizers:
        raise file.fault("encoder_config.num_quantizers", f"is below {decoder.num_quantizers}")
    if encoder.codebook_size != decoder.codebook_size:
        raise file.fault("encoder_config.codebook_size", f"is not {decoder.codebook_size}")
