"""What can be set for the Qwen3-TTS engine as a whole."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeAlias

from annotated_types import Ge, Gt, Le

from vivavoce.engines.options import (
    Count,
    Flag,
    Positive,
    Share,
    Temperature,
    given_or,
    parse_request_options,
)
from vivavoce.engines.qwen3.voices import cloned, model_language
from vivavoce.errors import InputError, SettingsError, UnknownVoice, Unsupported
from vivavoce.types import Sampling, Utterance, Voice

if TYPE_CHECKING:
    from vivavoce.engines.qwen3.config import GenerationConfig, Qwen3Config
    from vivavoce.engines.qwen3.rows import RowOptions
    from vivavoce.runtime.nn.sampling import SamplerOptions

DEFAULT_MODEL = "Qwen3-TTS-12Hz-0.6B-CustomVoice"
DEFAULT_ROWS = {"cpu": 4, "cuda": 16}
AUTO = "auto"
QUANTIZE = (AUTO, "int8", "fp8", "none", "")

Dtype: TypeAlias = Literal["auto", "float32", "bfloat16", "float16"]
CompileMode: TypeAlias = Literal["max-autotune", "reduce-overhead", "default", "off"]
TextLayout: TypeAlias = Literal["auto", "streaming", "whole"]

DEFAULT_MODE: CompileMode = "max-autotune"


@dataclass(frozen=True, slots=True)
class Qwen3Options:
    """Options of the Qwen3-TTS engine.

    ``model`` is a folder in the published layout or a published name (downloaded on ``load`` into
    ``models_dir``, unless it is there); ``voice`` the default voice. ``device`` is where it runs
    or nothing does; "auto" takes a CUDA device if PyTorch sees one. ``dtype`` "auto" is bfloat16
    on CUDA, float32 on a CPU; the codec is always float32. ``tf32`` None allows TF32 unless the
    dtype is float32. ``capacity`` rows (0: 4 on a CPU, 16 on CUDA, 4 where that is under 12 GB) of
    ``positions`` each (prompt and speech; 12.5 a second). ``text_layout`` "auto" is what the
    model's kind is published with. ``reference_silence_s`` goes to the end of a recording to clone
    from (None: 0.5 with a transcript, else none). ``guards`` False speaks without silence and loop
    detection.
    ``threads`` are PyTorch's on a CPU (0: half the cores). ``quantize`` is how the weights of the
    talker and the code predictor are stored: "int8", "fp8" (CUDA from sm_89 on), "none" (or
    nothing), or "auto": int8 on CUDA where its kernels work, none on a CPU. On CUDA frames, prompts
    and sound are captured unless ``cuda_graphs`` is False, and the codec is compiled in
    ``torch_compile_mode`` (None: "max-autotune"), unless that is "off" or ``torch_compile`` False.
    Rows are as many as fit into ``gpu_memory_budget_mb`` of a GPU (0: what is free there), CUDA's
    own context not counted. What asks for what is not there is refused; on a CPU that nobody asked
    for, what is for a GPU is named in the log.
    """

    RECORDS: ClassVar = "frames"
    GONE: ClassVar[Mapping[str, str]] = {
        "one_launch": "a frame is always one captured graph. Leave it out"
    }

    model: str | Path = DEFAULT_MODEL
    voice: str = ""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Dtype = "auto"
    tf32: bool | None = None
    capacity: Count = 0
    positions: Annotated[int, Ge(64), Le(32_768)] = 1024
    text_layout: TextLayout = "auto"
    reference_silence_s: Annotated[float, Ge(0.0), Le(5.0)] | None = None
    guards: bool = True
    threads: Count = 0
    models_dir: Path | None = None
    quantize: str = AUTO
    torch_compile: bool | None = None
    torch_compile_mode: CompileMode | None = None
    cuda_graphs: bool | None = None
    gpu_memory_budget_mb: Count = 0


def refuse_unsupported(options: Qwen3Options) -> None:
    """Raise SettingsError for what cannot be switched on; nothing is ignored silently."""
    if options.quantize.lower() not in QUANTIZE:
        raise SettingsError(
            f"quantize={options.quantize!r} is not one of {', '.join(filter(None, QUANTIZE))}.",
            param="quantize",
        )
    if options.quantize.lower() == "fp8" and options.device == "cpu":
        raise SettingsError("quantize='fp8' needs device 'cuda'.", param="quantize")
    if options.cuda_graphs and options.device == "cpu":
        raise SettingsError("cuda_graphs needs device 'cuda'.", param="cuda_graphs")
    if options.gpu_memory_budget_mb and options.device == "cpu":
        raise SettingsError(
            "gpu_memory_budget_mb needs device 'cuda'.", param="gpu_memory_budget_mb"
        )
    if options.torch_compile and (
        options.cuda_graphs is False or options.torch_compile_mode == "off"
    ):
        raise SettingsError(
            "torch_compile=true needs cuda_graphs, and a torch_compile_mode that is not off.",
            param="torch_compile",
        )
    if options.torch_compile and options.device == "cpu":
        raise SettingsError("torch_compile needs device 'cuda'.", param="torch_compile")


def compile_mode(options: Qwen3Options) -> CompileMode:
    """How the codec is compiled on CUDA: ``torch_compile`` says whether, the mode says how."""
    if options.torch_compile is False:
        return "off"
    return options.torch_compile_mode or DEFAULT_MODE


def for_a_gpu(options: Qwen3Options) -> list[str]:
    """What was set, as name=value, that has no effect on a CPU."""
    set_ = {
        "cuda_graphs": options.cuda_graphs,
        "torch_compile": options.torch_compile,
        "torch_compile_mode": options.torch_compile_mode,
        "tf32": options.tf32,
    }
    return [f"{name}={value}" for name, value in set_.items() if value not in (None, False, "off")]


def rows_of(options: Qwen3Options, device: str) -> int:
    """How many rows on "cpu" or "cuda", before memory is asked."""
    return options.capacity or DEFAULT_ROWS[device]


def models_root(options: Qwen3Options) -> Path:
    """Where downloaded models are kept."""
    if options.models_dir is not None:
        return options.models_dir
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "vivavoce" / "models"


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """Options of one utterance; None takes the checkpoint's or the engine's own.

    ``greedy`` always takes the best code, in the code predictor ("subtalker") too. ``max_frames``
    replaces the budget that follows from the text. ``guards`` False speaks without silence and
    loop detection.
    """

    greedy: Flag = False
    text_layout: TextLayout = "auto"
    top_k: Count | None = None
    repetition_penalty: Annotated[float, Gt(0.0), Le(10.0)] | None = None
    subtalker_dosample: Flag | None = None
    subtalker_temperature: Temperature | None = None
    subtalker_top_k: Count | None = None
    subtalker_top_p: Share | None = None
    max_frames: Positive | None = None
    guards: Flag = True


def row_options(
    generation: GenerationConfig, sampling: Sampling, request: RequestOptions, max_frames: int
) -> RowOptions:
    """What a row is admitted with. A temperature of 0 is greedy, for both samplers.

    Without a seed one is drawn.
    """
    from vivavoce.engines.qwen3.rows import RowOptions

    penalty = given_or(request.repetition_penalty, generation.repetition_penalty)
    seed = random.getrandbits(64) if sampling.seed is None else sampling.seed
    greedy = request.greedy or sampling.temperature == 0
    return RowOptions(
        _talker_sampler(generation, sampling, request, greedy),
        _code_sampler(generation, request, greedy),
        repetition_penalty=penalty,
        seed=seed,
        max_frames=max_frames,
    )


def _talker_sampler(
    generation: GenerationConfig, sampling: Sampling, request: RequestOptions, greedy: bool
) -> SamplerOptions:
    from vivavoce.runtime.nn.sampling import SamplerOptions

    temperature = given_or(sampling.temperature, generation.temperature)
    drawn = (generation.do_sample or sampling.temperature is not None) and temperature > 0
    return SamplerOptions(
        greedy or not drawn,
        temperature,
        given_or(request.top_k, generation.top_k),
        given_or(sampling.top_p, generation.top_p),
    )


def _code_sampler(
    generation: GenerationConfig, request: RequestOptions, greedy: bool
) -> SamplerOptions:
    from vivavoce.runtime.nn.sampling import SamplerOptions

    temperature = given_or(request.subtalker_temperature, generation.subtalker_temperature)
    drawn = given_or(request.subtalker_dosample, generation.subtalker_dosample) and temperature > 0
    return SamplerOptions(
        greedy or not drawn,
        temperature,
        given_or(request.subtalker_top_k, generation.subtalker_top_k),
        given_or(request.subtalker_top_p, generation.subtalker_top_p),
    )


SMALL = "0b6"


def check_utterance(
    config: Qwen3Config, utterance: Utterance, voices: Sequence[Voice]
) -> RequestOptions:
    """Its options. Raises InputError for what this model cannot speak."""
    request = parse_request_options(RequestOptions, "qwen3", utterance)
    model_language(utterance.language, config.talker.codec_language_id)
    _check_voice(config, utterance.voice, voices)
    _check_instructions(config, utterance)
    if utterance.text_open:
        _check_open(request, utterance.voice)
    return request


def check_described(config: Qwen3Config, utterance: Utterance) -> None:
    """Raise InputError where a VoiceDesign model is given no voice to make."""
    if config.kind == "voice_design" and not instructions_of(utterance):
        raise InputError(
            "This model needs instructions that describe a voice.", param="instructions"
        )


def takes_instructions(config: Qwen3Config) -> bool:
    """Whether a checkpoint was trained to be told how to speak; of the small ones none was."""
    return config.kind == "voice_design" or (config.kind == "custom_voice" and config.size != SMALL)


def instructions_of(utterance: Utterance) -> str:
    """How it is to be spoken; empty where nothing was said."""
    return (utterance.instructions or "").strip()


def _check_voice(config: Qwen3Config, voice: Voice, voices: Sequence[Voice]) -> None:
    state = cloned(voice)
    if config.kind == "base":
        if state is None:
            raise UnknownVoice(voice.id, [each.id for each in voices])
        if len(state.x_vector) != config.talker.hidden_size:
            raise InputError("The voice was made with another model.", param="voice")
        _check_codes(config, voice)
    elif state is not None:
        raise Unsupported(f"A {config.kind} model cannot speak as a clone.", param="voice")
    elif voice.id not in {each.id for each in voices}:
        raise UnknownVoice(voice.id, [each.id for each in voices])


def _check_codes(config: Qwen3Config, voice: Voice) -> None:
    """Codes of a saved voice are read from a file: they must be this codec's."""
    state, codec = cloned(voice), config.codec.decoder
    if state is None or state.codes is None:
        return
    codes = state.codes
    inside = codes.min() >= 0 and codes.max() < codec.codebook_size
    if codes.shape[1] != codec.num_quantizers or not inside:
        raise InputError("The voice was made with another model.", param="voice")


def _check_instructions(config: Qwen3Config, utterance: Utterance) -> None:
    """The service names them as ignored and leaves them out; whoever calls by himself hears why."""
    if not instructions_of(utterance) or takes_instructions(config):
        return
    kind = "A Base" if config.kind == "base" else "The 0.6B CustomVoice"
    raise Unsupported(
        f"{kind} model takes no instructions; the 1.7B CustomVoice and VoiceDesign models do.",
        param="instructions",
    )


def _check_open(request: RequestOptions, voice: Voice) -> None:
    state = cloned(voice)
    if request.text_layout == "whole":
        raise Unsupported("Text in pieces needs the streaming layout.", param="text_layout")
    if state is not None and state.in_context:
        raise Unsupported(
            "Text in pieces needs a voice that was cloned without a transcript.", param="voice"
        )
