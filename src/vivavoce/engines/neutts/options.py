"""What can be set for the NeuTTS engine as a whole, and what one utterance may ask of a model."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeAlias

from annotated_types import Ge, Gt, Le

from vivavoce.engines.neutts.backbone import TokenSampling
from vivavoce.engines.neutts.family import Family
from vivavoce.engines.neutts.voices import ALIASES, builtin_voices, reference_of
from vivavoce.engines.options import Flag, given_or, parse_request_options
from vivavoce.engines.voices import default_first
from vivavoce.errors import InputError, SettingsError, SetupError, UnknownVoice, Unsupported, shown
from vivavoce.text.languages import language_code
from vivavoce.types import Utterance, Voice

DEFAULT_BACKBONE = "neuphonic/neutts-nano-q4-gguf"
DEFAULT_CODEC = "neuphonic/neucodec-onnx-decoder-int8"
DEFAULT_ENCODER = "neuphonic/distill-neucodec"
DEFAULT_ROWS = {"cpu": 4, "cuda": 16}

Count = Annotated[int, Ge(0)]
Share = Annotated[float, Gt(0.0), Le(1.0)]
Precision: TypeAlias = Literal["auto", "int8", "int8-layers", "float32"]
CodecRuntime: TypeAlias = Literal["auto", "onnx", "torch"]
BackboneRuntime: TypeAlias = Literal["auto", "torch", "llama.cpp"]


@dataclass(frozen=True, slots=True)
class NeuTTSOptions:
    """Options of the NeuTTS engine.

    ``backbone_repo`` (``model`` is another name for it) and ``codec_repo`` are repositories of the
    Hugging Face Hub, downloaded on ``load`` into ``models_dir``, or paths: a ``.gguf`` file or a
    folder with safetensors; a folder or file of weights, or an ``.onnx`` decoder.
    ``backbone_runtime`` "auto" loads what a published repository is known for; of any other, and
    of a folder, safetensors in PyTorch before a GGUF in llama.cpp where it has both.
    ``backbone_device`` and ``codec_device`` are "cpu" or "cuda"; what is not there is an error.
    ``codec_runtime`` is what decodes a checkpoint: unless set ONNX Runtime on a CPU, PyTorch on
    CUDA. ``codec_precision`` "int8-layers" leaves its convolutions in float32.
    ``encoder_repo`` is what clones voices, on ``encoder_device``; empty: none. ``semantic_repo`` is
    its semantic model, where the encoder's own file does not hold it.

    ``language`` (ISO 639-1) is what the backbone speaks, where its repository's name does not
    tell. ``voice`` is the default voice; ``voices_dir`` holds voices as NAME.npy, NAME.json or
    NAME.pt (codes) with NAME.txt (what was said).

    ``capacity`` rows (0: 4 on a CPU, 16 on CUDA) of ``context`` tokens each (prompt and speech; 50
    a second), keys and values of a GGUF in ``cache_precision``. ``flash_attention`` reads its
    prompts sooner on a CPU, and what a row says then depends on its company. ``threads`` are for
    one token of all rows, ``batch_threads`` for prompts, ``codec_threads`` for the codec; 0 is a
    choice that leaves the other parts a core. ``quantize`` "int8" is refused for a backbone in
    PyTorch, which has nothing quicker than bfloat16, and does nothing to a GGUF. ``gpu_layers`` is
    how much of a GGUF goes to CUDA (-1: all). ``prune`` keeps a copy of a GGUF without the rows
    that speech never needs beside it (or in ``cache_dir``).

    ``temperature`` to ``min_tokens`` are what an utterance draws with unless it says otherwise;
    the values are those of the models' own GGUF path. ``chunks`` are the sizes of the first
    pieces of sound, in codes of 20 ms, ``lookback`` and ``lookforward`` what is decoded around
    each. ``adaptive`` alters the sizes by the playback clock; then a seed gives the same codes, but
    not the same samples. ``watermark`` marks the sound as synthetic (Perth).
    """

    DEVICES: ClassVar = ("backbone_device", "codec_device")
    RECORDS: ClassVar = "tokens"

    backbone_repo: str = DEFAULT_BACKBONE
    model: str = ""
    backbone_device: Literal["cpu", "cuda"] = "cpu"
    backbone_runtime: BackboneRuntime = "auto"
    codec_repo: str = DEFAULT_CODEC
    codec_device: Literal["cpu", "cuda"] = "cpu"
    codec_precision: Precision = "auto"
    codec_runtime: CodecRuntime = "auto"
    encoder_repo: str = DEFAULT_ENCODER
    semantic_repo: str = ""
    encoder_device: Literal["cpu", "cuda"] = "cpu"
    language: str = ""
    voice: str = ""
    voices_dir: Path | None = None
    models_dir: Path | None = None
    cache_dir: Path | None = None
    cache_precision: Literal["float16", "float32"] = "float16"
    flash_attention: bool = False
    capacity: Count = 0
    context: Annotated[int, Ge(128), Le(32_768)] = 2048
    threads: Count = 0
    batch_threads: Count = 0
    codec_threads: Count = 0
    adaptive: bool = False
    gpu_layers: Annotated[int, Ge(-1)] = -1
    prune: bool = True
    quantize: Literal["", "none", "int8"] = "none"
    cuda_graphs: bool | None = None
    temperature: Annotated[float, Ge(0.0), Le(10.0)] = 1.0
    top_k: Count = 50
    top_p: Share = 0.95
    min_p: Annotated[float, Ge(0.0), Le(1.0)] = 0.05
    min_tokens: Count = 0
    chunks: tuple[Annotated[int, Ge(1)], ...] | str = ()
    lookback: Count = 25
    lookforward: Annotated[int, Ge(2)] = 5
    guards: bool = True
    watermark: bool = False

    @property
    def backbone(self) -> str:
        """The backbone's repository or path."""
        return self.model or self.backbone_repo


def chunk_sizes(options: NeuTTSOptions, otherwise: tuple[int, ...]) -> tuple[int, ...]:
    """Sizes of pieces; as text they stand between commas. Raises SettingsError."""
    if not isinstance(options.chunks, str):
        return options.chunks or otherwise
    try:
        sizes = tuple(int(part) for part in options.chunks.split(",") if part.strip())
    except ValueError as error:
        raise SettingsError("chunks are whole numbers between commas.", param="chunks") from error
    if sizes and min(sizes) < 2:
        raise SettingsError("A chunk has at least 2 codes.", param="chunks")
    return sizes or otherwise


def models_root(options: NeuTTSOptions) -> Path:
    """Where downloaded models are kept."""
    if options.models_dir is not None:
        return options.models_dir
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "vivavoce" / "models"


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """Options of one utterance; None takes the engine's own.

    ``emotion`` is one of a 2E model's. ``greedy`` always takes the likeliest code. ``max_codes``
    replaces the budget that follows from the text. ``guards`` False speaks without silence and
    loop detection.
    """

    emotion: str | None = None
    greedy: Flag = False
    top_k: Annotated[int, Ge(0)] | None = None
    min_p: Annotated[float, Ge(0.0), Le(1.0)] | None = None
    min_tokens: Annotated[int, Ge(0)] | None = None
    max_codes: Annotated[int, Ge(1)] | None = None
    guards: Flag = True


def emotion_of(request: RequestOptions, family: Family) -> str | None:
    """The special token for an emotion; None for none. Raises Unsupported, InputError."""
    if request.emotion is None:
        return None
    if not family.emotions:
        raise Unsupported("This model has no emotions; NeuTTS-2E has.", param="emotion")
    name = request.emotion.strip().lower()
    if name not in family.emotions:
        known = ", ".join(family.emotions)
        raise InputError(
            f"Unknown emotion {shown(request.emotion)}; there are: {known}.", param="emotion"
        )
    return family.emotion_token(name)


def token_sampling(
    options: NeuTTSOptions, utterance: Utterance, request: RequestOptions
) -> TokenSampling:
    """How its row draws. A temperature of 0 is greedy; without a seed one is drawn."""
    asked = utterance.sampling
    temperature = given_or(asked.temperature, options.temperature)
    return TokenSampling(
        temperature=temperature or 1.0,
        top_k=given_or(request.top_k, options.top_k),
        top_p=given_or(asked.top_p, options.top_p),
        min_p=given_or(request.min_p, options.min_p),
        seed=random.getrandbits(63) if asked.seed is None else asked.seed,
        min_tokens=given_or(request.min_tokens, options.min_tokens),
        greedy=request.greedy or temperature == 0,
    )


AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Speakable:
    """What is loaded (or will be): model, the language it speaks (ISO 639-1), its own voices."""

    family: Family
    language: str
    voices: tuple[Voice, ...]


def with_voices(known: Speakable, options: NeuTTSOptions, *, strict: bool) -> Speakable:
    """``known`` with the voices of the options; unless ``strict``, faults give "nobody".

    Raises SetupError where ``strict``.
    """
    try:
        found = builtin_voices(known.family, options.voices_dir, known.language)
        return replace(known, voices=default_first(found, options.voice, ALIASES))
    except SetupError:
        if strict:
            raise
        return replace(known, voices=builtin_voices(known.family, None, known.language))


def check_utterance(known: Speakable, utterance: Utterance) -> RequestOptions:
    """Its options. Raises InputError for what cannot be spoken."""
    request = parse_request_options(RequestOptions, "neutts", utterance)
    emotion_of(request, known.family)
    check_language(known, utterance.language)
    if (utterance.instructions or "").strip():
        raise Unsupported("NeuTTS models take no instructions.", param="instructions")
    if utterance.text_open:
        raise Unsupported("NeuTTS models take whole texts only.", param="input")
    own = {voice.id for voice in known.voices}
    if utterance.voice.data is None and utterance.voice.id not in own:
        raise UnknownVoice(utterance.voice.id, own)
    reference_of(utterance.voice)
    if known.family.speakers and utterance.voice.kind == "cloned":
        raise Unsupported("NeuTTS-2E speaks as its own speakers only.", param="voice")
    return request


def check_language(known: Speakable, language: str | None) -> None:
    """Raise InputError for a language this model does not speak."""
    if language is None or language.strip().lower() == AUTO:
        return
    code = language_code(language)
    if code != known.language:
        raise InputError(
            f"This model speaks {known.language!r}, not {code!r}; each NeuTTS model speaks one "
            "language.",
            param="language",
        )
