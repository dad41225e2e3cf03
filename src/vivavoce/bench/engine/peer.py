"""faster-qwen3-tts in the same run: the same checkpoint, text, number of frames and device."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from vivavoce.bench.engine.setting import TEXT, Setting, Told, release_memory, utterance
from vivavoce.bench.heard import FLOAT_FULL_SCALE, AudibleDetector
from vivavoce.engines.qwen3.pace import FRAME_MS
from vivavoce.engines.qwen3.row_speech import SAMPLE_RATE_HZ as RATE_HZ
from vivavoce.types import Samples

MODULE = "faster_qwen3_tts"
FRAMES = 96
SPEAKER, LANGUAGE = "Ryan", "English"
ROUNDS = 3
CHUNKS = {"default chunk": None, "one frame": 1}

HOW = (
    "faster-qwen3-tts is not installed; beside a PyTorch for CUDA: "
    "pip install --no-deps faster-qwen3-tts==0.5.4 qwen-tts-hf==0.1.1.post1 && "
    "pip install 'transformers>=5.15' accelerate librosa sox soundfile einops"
)


def measure_peer(setting: Setting) -> Told:
    """Both, and how many times sooner and quicker this engine is; or how to get the other."""
    if find_spec(MODULE) is None:
        return {"missing": HOW}
    told: Told = {"frames": FRAMES, "theirs": _theirs(setting), "ours": {}}
    setting.keep(told)
    release_memory()
    for precision in setting.precisions:
        told["ours"][precision] = _ours(setting, precision)
        setting.keep(told)
    theirs, ours = told["theirs"], told["ours"][setting.precisions[0]]
    told["times_quicker"] = {
        name: {key: round(each[key] / ours[key], 2) for key in ours if key in each}
        for name, each in theirs.items()
    }
    return told


def _ours(setting: Setting, precision: str) -> Told:
    engine = setting.engine(precision, 1)

    def speak() -> Iterator[Samples]:
        slot, last = engine.admit(utterance(engine, FRAMES, 1)), False
        while not last:
            for piece in engine.step():
                last = piece.last
                yield piece.samples
        engine.release(slot)

    told = _timed(speak)
    engine.unload()
    release_memory()
    return told


def _theirs(setting: Setting) -> Told:
    model = import_module(MODULE).FasterQwen3TTS.from_pretrained(
        str(setting.folder), device=setting.device
    )

    def speaking(chunk: int | None) -> Callable[[], Iterator[Samples]]:
        more: dict[str, Any] = {} if chunk is None else {"chunk_size": chunk}

        def speak() -> Iterator[Samples]:
            pieces = model.generate_custom_voice_streaming(
                text=TEXT,
                speaker=SPEAKER,
                language=LANGUAGE,
                max_new_tokens=FRAMES,
                min_new_tokens=FRAMES,
                **more,
            )
            return (samples for samples, _rate, _timing in pieces)

        return speak

    return {name: _timed(speaking(chunk)) for name, chunk in CHUNKS.items()}


def _timed(speak: Callable[[], Iterator[Samples]]) -> Told:
    """The best of a few after one that warms up; with prompt and codec, over the sound made."""
    runs = [_one(speak) for _ in range(ROUNDS + 1)][1:]
    names = [name for name in runs[0] if all(name in run for run in runs)]
    return {name: round(min(run[name] for run in runs), 3) for name in names}


def _one(speak: Callable[[], Iterator[Samples]]) -> dict[str, float]:
    onset = AudibleDetector(RATE_HZ, full_scale=FLOAT_FULL_SCALE)
    first_s, count, began_s = None, 0, time.perf_counter()
    for samples in speak():
        now_s = time.perf_counter()
        if len(samples):
            first_s = now_s if first_s is None else first_s
            onset.feed(now_s, samples)
        count += len(samples)
    ended_s = time.perf_counter()
    frames = count * 1000 / RATE_HZ / FRAME_MS
    told = {
        "first_sound_ms": ((first_s or ended_s) - began_s) * 1000,
        "ms_a_frame": (ended_s - began_s) * 1000 / frames,
    }
    heard_s = onset.audible_at_s
    return told if heard_s is None else told | {"first_audible_ms": (heard_s - began_s) * 1000}
