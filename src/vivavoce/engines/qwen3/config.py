"""What a Qwen3-TTS checkpoint says of itself in config.json and generation_config.json.

Fields are named as the keys they are read from. Every key is required: the defaults of the
published classes belong to other models. What this engine cannot compute (another activation,
biases, a sliding window in the talker) is refused here, not ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from vivavoce.engines.qwen3.codec_config import TOKENIZER_TYPE, CodecConfig
from vivavoce.runtime.json_config import JsonObject

MODEL_TYPE = "qwen3_tts"
CONTROL_CODES = 1024
"""The last codes of the talker's vocabulary steer it; they are not sounds."""

ModelKind: TypeAlias = Literal["base", "custom_voice", "voice_design"]
KINDS: tuple[ModelKind, ...] = ("base", "custom_voice", "voice_design")


@dataclass(frozen=True, slots=True)
class CodePredictorConfig:
    """The small decoder that finishes a frame: codes 1..15 from the talker's state and code 0."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float
    vocab_size: int
    num_code_groups: int


@dataclass(frozen=True, slots=True)
class TalkerConfig:
    """The decoder that makes one hidden state and code 0 a frame.

    ``spk_id`` and ``codec_language_id`` are keyed by lower-case names. ``spk_is_dialect`` holds
    only the speakers that have a dialect, with that dialect's name in ``codec_language_id``.
    """

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float
    max_position_embeddings: int
    vocab_size: int
    text_vocab_size: int
    text_hidden_size: int
    num_code_groups: int
    codec_bos_id: int
    codec_eos_token_id: int
    codec_pad_id: int
    codec_think_id: int
    codec_nothink_id: int
    codec_think_bos_id: int
    codec_think_eos_id: int
    codec_language_id: Mapping[str, int]
    spk_id: Mapping[str, int]
    spk_is_dialect: Mapping[str, str]
    code_predictor: CodePredictorConfig

    @property
    def has_projection(self) -> bool:
        """Whether ``small_to_mtp_projection`` stands between talker and code predictor."""
        return self.hidden_size != self.code_predictor.hidden_size


@dataclass(frozen=True, slots=True)
class SpeakerEncoderConfig:
    """ECAPA-TDNN that turns a recording into one vector of ``enc_dim`` (base models only).

    Published files hold ``enc_dim`` and ``sample_rate`` alone. The other fields have the values
    that all published weights have; a file may name them, and the tensors' shapes are checked
    against them.
    """

    enc_dim: int
    sample_rate: int
    mel_dim: int = 128
    enc_channels: tuple[int, ...] = (512, 512, 512, 512, 1536)
    enc_kernel_sizes: tuple[int, ...] = (5, 3, 3, 3, 1)
    enc_dilations: tuple[int, ...] = (1, 2, 3, 4, 1)
    enc_attention_channels: int = 128
    enc_res2net_scale: int = 8
    enc_se_channels: int = 128


@dataclass(frozen=True, slots=True)
class GenerationConfig:
    """The sampling a checkpoint asks for (generation_config.json)."""

    do_sample: bool
    temperature: float
    top_k: int
    top_p: float
    repetition_penalty: float
    subtalker_dosample: bool
    subtalker_temperature: float
    subtalker_top_k: int
    subtalker_top_p: float
    max_new_tokens: int


@dataclass(frozen=True, slots=True)
class Qwen3Config:
    """Everything the small files of a checkpoint folder say.

    ``speaker_encoder`` is there for ``kind == "base"`` alone. ``size`` is "0b6" or "1b7".
    """

    kind: ModelKind
    size: str
    im_start_token_id: int
    im_end_token_id: int
    assistant_token_id: int
    tts_bos_token_id: int
    tts_eos_token_id: int
    tts_pad_token_id: int
    talker: TalkerConfig
    speaker_encoder: SpeakerEncoderConfig | None
    generation: GenerationConfig
    codec: CodecConfig

    @classmethod
    def load(cls, folder: Path) -> Qwen3Config:
        """Read ``folder``/{config,generation_config,speech_tokenizer/config}.json.

        Raises ModelFileError that names the file and the key.
        """
        file = JsonObject.read(folder / "config.json")
        kind = _kind(file)
        config = cls(
            kind=kind,
            size=file.get("tts_model_size", str),
            talker=_talker(file.child("talker_config")),
            speaker_encoder=_speaker_encoder(file) if kind == "base" else None,
            generation=JsonObject.read(folder / "generation_config.json").into(GenerationConfig),
            codec=CodecConfig.load(folder / "speech_tokenizer"),
            **{name: file.get(name, int) for name in TEXT_IDS},
        )
        _check_ids(file, config)
        return config


TEXT_IDS = (
    "im_start_token_id",
    "im_end_token_id",
    "assistant_token_id",
    "tts_bos_token_id",
    "tts_eos_token_id",
    "tts_pad_token_id",
)
CODEC_IDS = (
    "codec_bos_id",
    "codec_eos_token_id",
    "codec_pad_id",
    "codec_think_id",
    "codec_nothink_id",
    "codec_think_bos_id",
    "codec_think_eos_id",
)


def _kind(file: JsonObject) -> ModelKind:
    file.demand("model_type", MODEL_TYPE)
    file.demand("tokenizer_type", TOKENIZER_TYPE)
    given = file.get("tts_model_type", str)
    for kind in KINDS:
        if given == kind:
            return kind
    raise file.fault("tts_model_type", f"is {given!r}, not one of {', '.join(KINDS)}")


def _talker(values: JsonObject) -> TalkerConfig:
    _check_stack(values)
    predictor = values.child("code_predictor_config")
    _check_stack(predictor)
    talker = values.into(
        TalkerConfig,
        code_predictor=predictor.into(CodePredictorConfig),
        spk_is_dialect=_dialects(values.child("spk_is_dialect")),
        spk_id=_lower(values.get("spk_id", Mapping[str, int])),
        codec_language_id=_lower(values.get("codec_language_id", Mapping[str, int])),
    )
    if talker.code_predictor.num_code_groups != talker.num_code_groups:
        raise predictor.fault("num_code_groups", f"is not the talker's {talker.num_code_groups}")
    for speaker, dialect in talker.spk_is_dialect.items():
        if dialect not in talker.codec_language_id:
            raise values.fault(f"spk_is_dialect.{speaker}", f"names no language: {dialect!r}")
    return talker


def _check_stack(values: JsonObject) -> None:
    """Refuse what the layers do not compute."""
    values.demand("hidden_act", "silu")
    values.demand("attention_bias", False)
    values.demand("use_sliding_window", False)
    scaling = values.values.get("rope_scaling")
    if scaling is not None and values.child("rope_scaling").get("rope_type", str) != "default":
        raise values.fault("rope_scaling.rope_type", "is not 'default'; no other is supported")
    heads, groups = (values.get(f"num_{name}_heads", int) for name in ("attention", "key_value"))
    values.demand_positive("hidden_size", "head_dim", "num_hidden_layers", "num_key_value_heads")
    if heads < 1 or heads % groups:
        raise values.fault("num_attention_heads", f"is {heads}, no multiple of {groups}")


def _dialects(values: JsonObject) -> dict[str, str]:
    return {
        name.lower(): values.get(name, str).lower()
        for name, dialect in values.values.items()
        if dialect is not False
    }


def _lower(ids: Mapping[str, int]) -> dict[str, int]:
    return {name.lower(): id_ for name, id_ in ids.items()}


def _speaker_encoder(file: JsonObject) -> SpeakerEncoderConfig:
    values = file.child("speaker_encoder_config")
    defaults = {
        name: default for name, default in _speaker_defaults().items() if name not in values.values
    }
    config = values.into(SpeakerEncoderConfig, **defaults)
    lists = (config.enc_channels, config.enc_kernel_sizes, config.enc_dilations)
    if len({len(items) for items in lists}) != 1 or len(config.enc_channels) < 3:
        raise values.fault("enc_channels", "has not one entry a layer")
    if config.enc_channels[-1] != sum(config.enc_channels[1:-1]):
        raise values.fault("enc_channels", "does not end with the sum of the blocks' channels")
    return config


def _speaker_defaults() -> dict[str, object]:
    example = SpeakerEncoderConfig(0, 0)
    names = SpeakerEncoderConfig.__dataclass_fields__
    return {
        name: getattr(example, name) for name in names if name not in ("enc_dim", "sample_rate")
    }


def _check_ids(file: JsonObject, config: Qwen3Config) -> None:
    """Every id must have a row in its table, and every code 0 an entry in the codebook."""
    talker = file.child("talker_config")
    given = config.talker
    _check_below(file, ((name, getattr(config, name)) for name in TEXT_IDS), given.text_vocab_size)
    codes = [(name, getattr(given, name)) for name in CODEC_IDS]
    codes += [(f"spk_id.{name}", id_) for name, id_ in given.spk_id.items()]
    codes += [(f"codec_language_id.{name}", id_) for name, id_ in given.codec_language_id.items()]
    _check_below(talker, codes, given.vocab_size)
    codebook = config.codec.decoder.codebook_size
    if given.vocab_size - CONTROL_CODES != codebook:
        raise talker.fault("vocab_size", f"is not {codebook} codes and {CONTROL_CODES} controls")
    predictor = talker.child("code_predictor_config")
    if given.code_predictor.vocab_size != codebook:
        raise predictor.fault("vocab_size", f"is not the codec's {codebook}")
    if given.num_code_groups != config.codec.decoder.num_quantizers:
        raise talker.fault("num_code_groups", "is not the codec's num_quantizers")
    if config.speaker_encoder and config.speaker_encoder.enc_dim != given.hidden_size:
        raise file.child("speaker_encoder_config").fault("enc_dim", "is not the talker's width")


def _check_below(values: JsonObject, ids: Iterable[tuple[str, int]], limit: int) -> None:
    for name, id_ in ids:
        if not 0 <= id_ < limit:
            raise values.fault(name, f"is {id_}, outside its table of {limit}")
