"""The engine's parts, made from its options, and what the engine says of them."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from vivavoce.engines.base import Capabilities, TextLiking
from vivavoce.engines.neutts.backbone import Prompt, TokenSampling
from vivavoce.engines.neutts.codec.stream import CODES_PER_S, Schedule
from vivavoce.engines.neutts.family import Family, Kind
from vivavoce.engines.neutts.models import CODEC, expected_kind, locate, locate_backbone
from vivavoce.engines.neutts.options import (
    DEFAULT_ROWS,
    CodecRuntime,
    NeuTTSOptions,
    chunk_sizes,
    models_root,
)
from vivavoce.engines.neutts.schedule import RAMPS, Ramp, Speed, StepCosts, ramp_for
from vivavoce.errors import EngineError, MissingExtra, SettingsError, SetupError
from vivavoce.runtime.derived_files import cache_root
from vivavoce.runtime.hub import is_in_client_cache
from vivavoce.runtime.machine import usable_cores
from vivavoce.types import Gpu, WeightsFormat

if TYPE_CHECKING:
    from vivavoce.engines.neutts.backbone import Backbone
    from vivavoce.engines.neutts.codec.stream import Codec

log = logging.getLogger(__name__)


REFERENCE_CODES = 16
TOKENS = 16
"""Tokens of each measurement."""

WINDOW = 55
"""Codes of a window, as in the middle of a ramp."""


@dataclass(frozen=True, slots=True)
class Threads:
    """How many threads each part gets; tokens up to ``tokens_most`` while the codec rests."""

    tokens: int
    prompts: int
    codec: int
    tokens_most: int = 0


def threads_of(options: NeuTTSOptions, here: int | None = None) -> Threads:
    """What was asked for; else tokens get half the cores, prompts those too but one is left.

    Never all cores for good: with every core taken, one other busy process makes each token wait
    for its slowest thread. Two cores: one for tokens, or two while the codec rests and that is
    measured to be sooner, two for the short prompts, one for the codec.
    """
    here = usable_cores() if here is None else here
    tokens = options.threads or max(1, here // 2)
    prompts = options.batch_threads or max(tokens, min(here, 2), here - 2)
    codec = options.codec_threads or max(1, min(4, here - tokens))
    most = 0 if options.threads else min(2 * tokens, prompts)
    return Threads(tokens, prompts, codec, most)


def rows_of(options: NeuTTSOptions) -> int:
    """How many utterances speak at once."""
    return options.capacity or DEFAULT_ROWS[options.backbone_device]


def open_backbone(options: NeuTTSOptions) -> Backbone:
    """The backbone, not yet loaded. Raises SetupError."""
    _require(expected_kind(options), options)  # before gigabytes are fetched
    found = locate_backbone(options)
    _require(found.kind, options)
    made = _torch if found.kind == "torch" else _gguf
    return made(found.path, options)


def _require(kind: Kind | None, options: NeuTTSOptions) -> None:
    """Raise MissingExtra or SettingsError where a kind of backbone cannot be run as asked for."""
    if kind == "torch" and options.quantize == "int8":
        raise SettingsError(
            "quantize='int8' is not for a NeuTTS backbone in PyTorch: every product would make its "
            "matrix wide again first, which is slower than bfloat16. Set quantize to none (it is "
            "bfloat16 on CUDA then); neuphonic's q4 and q8 repositories are smaller (GGUF).",
            param="quantize",
        )
    if kind == "gguf" and (find_spec("llama_cpp") is None or find_spec("gguf") is None):
        raise MissingExtra("A GGUF backbone", "neutts")
    if kind == "torch" and (find_spec("torch") is None or find_spec("tokenizers") is None):
        raise MissingExtra("A PyTorch backbone", "neutts-torch")


def _gguf(path: Path, options: NeuTTSOptions) -> Backbone:
    from vivavoce.engines.neutts.gguf.backbone import GgufBackbone, GgufSettings
    from vivavoce.engines.neutts.gguf.threads import Threads as LlamaThreads

    threads = threads_of(options)
    return GgufBackbone(
        path,
        GgufSettings(
            context_tokens=options.context,
            capacity=rows_of(options),
            threads=LlamaThreads(threads.tokens, threads.prompts, threads.tokens_most),
            gpu_layers=options.gpu_layers if options.backbone_device == "cuda" else 0,
            prune=options.prune,
            cache_folder=options.cache_dir or _folder_for_copies(path),
            exact=options.cache_precision == "float32",
            flash_attention=options.flash_attention,
        ),
    )


def _folder_for_copies(path: Path) -> Path | None:
    """Where what is made of a model goes if not beside it: Hugging Face's cache is not ours."""
    return cache_root() / "neutts" if is_in_client_cache(path) else None


def _torch(folder: Path, options: NeuTTSOptions) -> Backbone:
    from vivavoce.engines.neutts.torch_backbone import TorchBackbone
    from vivavoce.engines.neutts.torch_plan import TorchLmOptions

    return TorchBackbone(
        folder,
        TorchLmOptions(
            device=options.backbone_device,
            context_tokens=options.context,
            capacity=rows_of(options),
            threads=threads_of(options).tokens,
            graphs=options.cuda_graphs is not False,
        ),
    )


def open_codec(options: NeuTTSOptions) -> Codec:
    """The codec, ready to decode. Raises SetupError.

    A published graph runs in ONNX Runtime. A checkpoint does too on a CPU, where that is installed,
    and runs in PyTorch on CUDA; ``codec_runtime`` says otherwise.
    """
    path = locate(options.codec_repo, models_root(options), CODEC)
    if _runtime(path, options) == "torch":
        return _torch_codec(path, options)
    from vivavoce.engines.neutts.codec.onnx_codec import open_onnx_codec

    device, precision = options.codec_device, options.codec_precision
    if precision == "auto":
        precision = "int8" if device == "cpu" else "float32"
    return open_onnx_codec(
        path,
        precision=precision,
        device=device,
        threads=threads_of(options).codec,
        cache=options.cache_dir,
    )


def _runtime(path: Path, options: NeuTTSOptions) -> CodecRuntime:
    graph = path.suffix == ".onnx" or (path / "model.onnx").is_file()
    if graph and options.codec_runtime == "torch":
        raise SettingsError(
            f"codec_runtime='torch' needs a checkpoint, and {path} is a graph of ONNX.",
            param="codec_runtime",
        )
    if graph or options.codec_runtime != "auto":
        return "onnx" if graph else options.codec_runtime
    fitting = options.codec_device == "cuda" or find_spec("onnxruntime") is None
    return "torch" if fitting else "onnx"


def _torch_codec(path: Path, options: NeuTTSOptions) -> Codec:
    if find_spec("torch") is None:
        raise MissingExtra("The codec's checkpoint in PyTorch", "neutts-torch")
    from vivavoce.engines.neutts.codec.torch_decoder import open_torch_codec

    if options.codec_precision.startswith("int8"):
        raise SettingsError("int8 is for the codec in ONNX Runtime.", param="codec_precision")
    around = options.lookback + options.lookforward
    windows = tuple(around + size for size in schedule_of(options).chunks)
    return open_torch_codec(
        path,
        device=options.codec_device,
        precision=None if options.codec_precision == "auto" else "float32",
        windows=windows,
        threads=_torch_codec_threads(options),
    )


def _torch_codec_threads(options: NeuTTSOptions) -> int:
    """PyTorch's threads are those of the whole process: a backbone in it has set them (0)."""
    if options.codec_device == "cuda":
        return 0
    torch_too = options.backbone_device == "cpu" and locate_backbone(options).kind == "torch"
    return 0 if torch_too else threads_of(options).codec


def schedule_of(options: NeuTTSOptions, ramp: Ramp = RAMPS[0]) -> Schedule:
    """Sizes of pieces, ``ramp`` unless they are set, and what is decoded around them.

    Raises SettingsError.
    """
    sizes = chunk_sizes(options, ramp)
    try:
        return Schedule(sizes, options.lookback, options.lookforward)
    except ValueError as error:
        raise SettingsError(f"chunks, lookback or lookforward: {error}", param="chunks") from error


GRAPHS = ("graphs_captured", "graphs_failed", "graphs_replayed", "graphs_eager")
"""What a part that captures counts; the engine tells the sum."""

LIKING = TextLiking(group_s=20.0)
"""The reference is read again with every prompt. A group that does not fit beside a long one is
halved again (``prompt.py``)."""


def measured_speed(backbone: Backbone, codec: Codec) -> Speed:
    """Speak a little with loaded parts, and say how long it took.

    Raises SetupError where the model makes nothing that can be spoken.
    """
    codes = np.arange(WINDOW, dtype=np.int32)
    words = backbone.vocabulary
    start = (*words.header_ids, *words.middle_ids, *words.speech_ids(codes[:REFERENCE_CODES]))
    codec.decode(codes)
    most = 4 * TOKENS
    row = backbone.admit(Prompt(start), TokenSampling(greedy=True, min_tokens=most + 1), most + 1)
    try:
        while not (emitted := backbone.step()):
            pass
        if emitted[0].last:
            raise SetupError(f"The model cannot speak ({emitted[0].reason}).")
        alone = [_timed_step(backbone, codec_runs=False) for _ in range(TOKENS)]

        def timed() -> float:
            began_s = time.perf_counter()
            codec.decode(codes)
            return time.perf_counter() - began_s

        with ThreadPoolExecutor(1) as beside:
            decoding = beside.submit(timed)
            together = _while_decoding(backbone, decoding, most - TOKENS)
            decode_s = decoding.result()
    except EngineError as error:
        raise SetupError(f"The model cannot speak: {error}") from error
    finally:
        backbone.release(row)
    token_s = median(alone[len(alone) // 2 :])
    return Speed(token_s, median(together) if together else token_s, decode_s / WINDOW)


def _while_decoding(backbone: Backbone, decoding: Future[float], most: int) -> list[float]:
    taken: list[float] = []
    while not decoding.done() and len(taken) < most:
        taken.append(_timed_step(backbone, codec_runs=True))
    return taken


def _timed_step(backbone: Backbone, *, codec_runs: bool) -> float:
    began_s = time.perf_counter()
    backbone.step(codec_runs=codec_runs)
    return time.perf_counter() - began_s


def can_clone(options: NeuTTSOptions, family: Family) -> bool:
    """Whether recordings can become voices: not of a model with fixed speakers, nor without
    PyTorch, which the encoder needs."""
    return bool(options.encoder_repo) and not family.speakers and find_spec("torch") is not None


def warmed_up(
    options: NeuTTSOptions, backbone: Backbone, codec: Codec
) -> tuple[StepCosts, Schedule]:
    """What steps cost, and pieces that this machine can go on feeding; CUDA feeds any."""
    if options.chunks or options.backbone_device == "cuda":
        return StepCosts(), schedule_of(options)
    speed = measured_speed(backbone, codec)
    ramp = ramp_for(speed, options.lookback + options.lookforward, options.lookforward)
    costs = StepCosts(speed.token_s, speed.decoded_code_s, speed.token_s / 4)
    return costs, schedule_of(options, ramp)


def capabilities(options: NeuTTSOptions, family: Family) -> Capabilities:
    """What a model of ``family`` can do here."""
    return Capabilities(
        cloning=can_clone(options, family),
        seed=True,
        sampling=True,
        phonemes=family.layout == "phonemes",
    )


def gpu(backbone: Backbone | None, codec: Codec | None) -> Gpu | None:
    """The card of the part that has one, the backbone's first."""
    for part in (backbone, codec):
        if part is not None and part.device != "cpu":
            found = getattr(part, "gpu", None)
            if isinstance(found, Gpu):
                return found
    return None


def weights(backbone: Backbone | None, codec: Codec | None) -> Mapping[str, WeightsFormat]:
    """How those of both parts are stored; empty until they are loaded."""
    parts = {"backbone": backbone, "codec": codec}
    told = {name: getattr(part, "weights", None) for name, part in parts.items()}
    return {name: each for name, each in told.items() if isinstance(each, WeightsFormat)}


def details(
    options: NeuTTSOptions,
    family: Family,
    backbone: Backbone | None,
    codec: Codec | None,
    chunks: Sequence[int],
) -> dict[str, Any]:
    """For ``EngineInfo.details``; without parts that it is not loaded.

    ``devices`` names where backbone, codec and encoder run; the encoder is loaded for each clone
    alone. ``chunks`` are the sizes of pieces, in codes.
    """
    told: dict[str, Any] = {
        "loaded": backbone is not None,
        "family": family.name,
        "frame_rate_hz": CODES_PER_S,
    }
    if backbone is None or codec is None:
        return told
    devices = {"backbone": backbone.device, "codec": codec.device}
    if can_clone(options, family):
        devices["encoder"] = options.encoder_device
    own = {"backbone": _told_by(backbone), "codec": _told_by(codec)}
    graphs: Counter[str] = Counter()
    for each in own.values():
        graphs.update({name: value for name, value in each.items() if name in GRAPHS})
    return told | {
        "devices": devices,
        **{
            f"{part}_{name}": value
            for part, each in own.items()
            for name, value in each.items()
            if name not in GRAPHS
        },
        **graphs,
        "watermark": options.watermark,
        "rows": backbone.capacity,
        "context": backbone.context_tokens,
        "chunks": list(chunks),
        "why": "that is what was asked for",
    }


def _told_by(part: object) -> Mapping[str, Any]:
    """What a part tells of itself beside its device."""
    told = getattr(part, "details", {})
    return dict(told) if isinstance(told, Mapping) else {}


def warn_of_unused(options: NeuTTSOptions, backbone: Backbone) -> None:
    """Say in the log which settings have no effect on a loaded backbone, and why."""
    for words in unused(options, backbone):
        log.warning("%s", words)


def unused(options: NeuTTSOptions, backbone: Backbone) -> list[str]:
    """A sentence for each."""
    gguf = getattr(backbone, "details", {}).get("runtime") == "llama.cpp"
    found = []
    if gguf and options.quantize == "int8":
        found.append(
            "quantize=int8 has no effect: the weights of a GGUF are as its file has them; other "
            "files have others (neuphonic's q4 and q8 repositories)."
        )
    if options.cuda_graphs and (gguf or backbone.device == "cpu"):
        why = "llama.cpp has its own" if gguf else "the backbone runs on the CPU"
        found.append(f"cuda_graphs has no effect: {why}.")
    return found
