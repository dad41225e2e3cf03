"""Names and shapes of every tensor a checkpoint must hold, derived from its configuration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from vivavoce.engines.qwen3.codec_config import (
    CodecConfig,
    CodecDecoderConfig,
    CodecEncoderConfig,
)
from vivavoce.engines.qwen3.config import (
    CodePredictorConfig,
    Qwen3Config,
    SpeakerEncoderConfig,
    TalkerConfig,
)

Shape: TypeAlias = tuple[int, ...]
Named: TypeAlias = Iterator[tuple[str, Shape]]


def model_shapes(config: Qwen3Config) -> dict[str, Shape]:
    """The tensors of model.safetensors."""
    shapes = dict(_talker("talker.", config.talker))
    if config.speaker_encoder is not None:
        shapes |= _speaker_encoder("speaker_encoder.", config.speaker_encoder)
    return shapes


def codec_shapes(config: CodecConfig) -> dict[str, Shape]:
    """The tensors of speech_tokenizer/model.safetensors."""
    return dict(_decoder("decoder.", config.decoder)) | dict(_encoder("encoder.", config.encoder))


def _talker(at: str, talker: TalkerConfig) -> Named:
    width, text = talker.hidden_size, talker.text_hidden_size
    yield f"{at}model.text_embedding.weight", (talker.text_vocab_size, text)
    yield f"{at}model.codec_embedding.weight", (talker.vocab_size, width)
    yield from _stack(f"{at}model.", talker)
    yield from _linear(f"{at}text_projection.linear_fc1", text, text, bias=True)
    yield from _linear(f"{at}text_projection.linear_fc2", text, width, bias=True)
    yield from _linear(f"{at}codec_head", width, talker.vocab_size)
    yield from _code_predictor(f"{at}code_predictor.", talker)


def _code_predictor(at: str, talker: TalkerConfig) -> Named:
    predictor = talker.code_predictor
    yield from _stack(f"{at}model.", predictor)
    for group in range(predictor.num_code_groups - 1):
        yield (
            f"{at}model.codec_embedding.{group}.weight",
            (predictor.vocab_size, talker.hidden_size),
        )
        yield from _linear(f"{at}lm_head.{group}", predictor.hidden_size, predictor.vocab_size)
    if talker.has_projection:
        name = f"{at}small_to_mtp_projection"
        yield from _linear(name, talker.hidden_size, predictor.hidden_size, bias=True)


def _stack(at: str, config: TalkerConfig | CodePredictorConfig) -> Named:
    for layer in range(config.num_hidden_layers):
        name = f"{at}layers.{layer}."
        yield from _attention(name, config)
        yield f"{name}self_attn.q_norm.weight", (config.head_dim,)
        yield f"{name}self_attn.k_norm.weight", (config.head_dim,)
        yield from _swiglu(name, config)
    yield f"{at}norm.weight", (config.hidden_size,)


_Layers: TypeAlias = TalkerConfig | CodePredictorConfig | CodecDecoderConfig


def _attention(at: str, config: _Layers | CodecEncoderConfig) -> Named:
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    yield from _linear(f"{at}self_attn.q_proj", config.hidden_size, queries)
    yield from _linear(f"{at}self_attn.k_proj", config.hidden_size, keys)
    yield from _linear(f"{at}self_attn.v_proj", config.hidden_size, keys)
    yield from _linear(f"{at}self_attn.o_proj", queries, config.hidden_size)


def _swiglu(at: str, config: _Layers) -> Named:
    width, inner = config.hidden_size, config.intermediate_size
    yield from _linear(f"{at}mlp.gate_proj", width, inner)
    yield from _linear(f"{at}mlp.up_proj", width, inner)
    yield from _linear(f"{at}mlp.down_proj", inner, width)
    yield f"{at}input_layernorm.weight", (width,)
    yield f"{at}post_attention_layernorm.weight", (width,)


def _speaker_encoder(at: str, config: SpeakerEncoderConfig) -> Named:
    channels, kernels = config.enc_channels, config.enc_kernel_sizes
    last = channels[-1]
    yield from _conv(f"{at}blocks.0.conv", config.mel_dim, channels[0], kernels[0])
    for block in range(1, len(channels) - 1):
        yield from _res2net(f"{at}blocks.{block}.", config, block)
    yield from _conv(f"{at}mfa.conv", last, last, kernels[-1])
    yield from _conv(f"{at}asp.tdnn.conv", 3 * last, config.enc_attention_channels, 1)
    yield from _conv(f"{at}asp.conv", config.enc_attention_channels, last, 1)
    yield from _conv(f"{at}fc", 2 * last, config.enc_dim, 1)


def _res2net(at: str, config: SpeakerEncoderConfig, block: int) -> Named:
    before, width = config.enc_channels[block - 1 : block + 1]
    part, kernel = width // config.enc_res2net_scale, config.enc_kernel_sizes[block]
    yield from _conv(f"{at}tdnn1.conv", before, width, 1)
    for index in range(config.enc_res2net_scale - 1):
        yield from _conv(f"{at}res2net_block.blocks.{index}.conv", part, part, kernel)
    yield from _conv(f"{at}tdnn2.conv", width, width, 1)
    yield from _conv(f"{at}se_block.conv1", width, config.enc_se_channels, 1)
    yield from _conv(f"{at}se_block.conv2", config.enc_se_channels, width, 1)


def _decoder(at: str, config: CodecDecoderConfig) -> Named:
    semantic = config.num_semantic_quantizers
    yield from _decoder_quantizer(f"{at}quantizer.rvq_first.", config, semantic)
    yield from _decoder_quantizer(
        f"{at}quantizer.rvq_rest.", config, config.num_quantizers - semantic
    )
    yield from _conv(f"{at}pre_conv.conv", config.codebook_dim, config.latent_dim, 3)
    yield from _pre_transformer(f"{at}pre_transformer.", config)
    for index, ratio in enumerate(config.upsampling_ratios):
        yield from _upsample(f"{at}upsample.{index}.", config.latent_dim, ratio)
    yield from _waveform(f"{at}decoder.", config)


def _decoder_quantizer(at: str, config: CodecDecoderConfig, count: int) -> Named:
    outer, inner = config.codebook_dim, config.codebook_dim // 2
    yield f"{at}input_proj.weight", (inner, outer, 1)
    yield f"{at}output_proj.weight", (outer, inner, 1)
    for index in range(count):
        book = f"{at}vq.layers.{index}._codebook."
        yield f"{book}cluster_usage", (config.codebook_size,)
        yield f"{book}embedding_sum", (config.codebook_size, inner)


def _pre_transformer(at: str, config: CodecDecoderConfig) -> Named:
    width = config.hidden_size
    yield from _linear(f"{at}input_proj", config.latent_dim, width, bias=True)
    yield from _linear(f"{at}output_proj", width, config.latent_dim, bias=True)
    yield f"{at}norm.weight", (width,)
    for layer in range(config.num_hidden_layers):
        name = f"{at}layers.{layer}."
        yield from _attention(name, config)
        yield from _swiglu(name, config)
        yield from _layer_scales(name, width)


def _layer_scales(at: str, width: int) -> Named:
    yield f"{at}self_attn_layer_scale.scale", (width,)
    yield f"{at}mlp_layer_scale.scale", (width,)


def _upsample(at: str, width: int, ratio: int) -> Named:
    """A transposed convolution [in, out, kernel] and a ConvNeXt block."""
    yield from _conv(f"{at}0.conv", width, width, ratio)
    yield from _conv(f"{at}1.dwconv.conv", 1, width, 7)
    yield from _norm(f"{at}1.norm", width)
    yield from _linear(f"{at}1.pwconv1", width, 4 * width, bias=True)
    yield from _linear(f"{at}1.pwconv2", 4 * width, width, bias=True)
    yield f"{at}1.gamma", (width,)


def _waveform(at: str, config: CodecDecoderConfig) -> Named:
    width = config.decoder_dim
    yield from _conv(f"{at}0.conv", config.latent_dim, width, 7)
    for index, rate in enumerate(config.upsample_rates, 1):
        block, out = f"{at}{index}.block.", width // 2
        yield from _snake(f"{block}0", width)
        yield f"{block}1.conv.weight", (width, out, 2 * rate)  # transposed: in before out
        yield f"{block}1.conv.bias", (out,)
        for unit in (2, 3, 4):
            yield from _snake(f"{block}{unit}.act1", out)
            yield from _conv(f"{block}{unit}.conv1.conv", out, out, 7)
            yield from _snake(f"{block}{unit}.act2", out)
            yield from _conv(f"{block}{unit}.conv2.conv", out, out, 1)
        width = out
    count = len(config.upsample_rates)
    yield from _snake(f"{at}{count + 1}", width)
    yield from _conv(f"{at}{count + 2}.conv", width, 1, 7)


def _encoder(at: str, config: CodecEncoderConfig) -> Named:
    yield from _encoder_convolutions(f"{at}encoder.layers.", config)
    width, inner = config.hidden_size, config.intermediate_size
    for layer in range(config.num_hidden_layers):
        name = f"{at}encoder_transformer.layers.{layer}."
        yield from _attention(name, config)
        yield from _linear(f"{name}mlp.fc1", width, inner)
        yield from _linear(f"{name}mlp.fc2", inner, width)
        yield from _norm(f"{name}input_layernorm", width)
        yield from _norm(f"{name}post_attention_layernorm", width)
        yield from _layer_scales(name, width)
    yield f"{at}downsample.conv.weight", (width, width, 2 * config.downsample_stride)
    semantic = config.num_semantic_quantizers
    for name, count in (("semantic", semantic), ("acoustic", config.num_quantizers - semantic)):
        yield from _encoder_quantizer(
            f"{at}quantizer.{name}_residual_vector_quantizer.", config, count
        )


def _encoder_convolutions(at: str, config: CodecEncoderConfig) -> Named:
    """Layer numbers count the activations between, which have no tensors."""
    width = config.num_filters
    yield from _conv(f"{at}0.conv", config.audio_channels, width, config.kernel_size)
    layer = 1
    for ratio in reversed(config.upsampling_ratios):
        inner = width // config.compress
        kernel = config.residual_kernel_size
        yield from _conv(f"{at}{layer}.block.1.conv", width, inner, kernel)
        yield from _conv(f"{at}{layer}.block.3.conv", inner, width, 1)
        yield from _conv(f"{at}{layer + 2}.conv", width, 2 * width, 2 * ratio)
        width, layer = 2 * width, layer + 3
    yield from _conv(f"{at}{layer + 1}.conv", width, config.hidden_size, config.last_kernel_size)


def _encoder_quantizer(at: str, config: CodecEncoderConfig, count: int) -> Named:
    inner = config.vector_quantization_hidden_dimension
    yield f"{at}input_proj.weight", (inner, config.hidden_size, 1)
    yield f"{at}output_proj.weight", (config.hidden_size, inner, 1)
    for index in range(count):
        book = f"{at}layers.{index}.codebook."
        yield f"{book}initialized", (1,)
        yield f"{book}cluster_usage", (config.codebook_size,)
        yield f"{book}embed_sum", (config.codebook_size, config.codebook_dim)


def _linear(name: str, inputs: int, outputs: int, *, bias: bool = False) -> Named:
    yield f"{name}.weight", (outputs, inputs)
    if bias:
        yield f"{name}.bias", (outputs,)


def _conv(name: str, inputs: int, outputs: int, kernel: int) -> Named:
    yield f"{name}.weight", (outputs, inputs, kernel)
    yield f"{name}.bias", (outputs,)


def _norm(name: str, width: int) -> Named:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def _snake(name: str, width: int) -> Named:
    yield f"{name}.alpha", (width,)
    yield f"{name}.beta", (width,)
