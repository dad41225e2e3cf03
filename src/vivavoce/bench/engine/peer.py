"""faster-qwen3-tts in the same run: the same checkpoint, text, number of frames and device."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from vivavoce.bench.engine.setting import TEXT, Setting, Told, release_memory, utterance
from vivavoce.engines.qwen3.pace import FRAME_MS

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
    told: Told = {"frames": FRAMES, "theirs": _theirs(setting)}
    release_memory()
    told["ours"] = {precision: _ours(setting, precision) for precision in setting.precisions}
    theirs, ours = told["theirs"], told["ours"][setting.precisions[0]]
    told["times_quicker"] = {
        name: {key: round(each[key] / ours[key], 2) for key in ours}
        for name, each in theirs.items()
    }
    return told


def _ours(setting: Setting, precision: str) -> Told:
    engine = setting.engine(precision, 1)

    def speak() -> Iterator[int]:
        slot, last = engine.admit(utterance(engine, FRAMES, 1)), False
        while not last:
            for piece in engine.step():
                last = piece.last
                yield len(piece.samples)
        engine.release(slot)

    told = _timed(speak)
    engine.unload()
    release_memory()
    return told


def _theirs(setting: Setting) -> Told:
    model = import_module(MODULE).FasterQwen3TTS.from_pretrained(
        str(setting.folder), device=setting.device
    )

    def speaking(chunk: int | None) -> Callable[[], Iterator[int]]:
        more: dict[str, Any] = {} if chunk is None else {"chunk_size": chunk}

        def speak() -> Iterator[int]:
            pieces = model.generate_custom_voice_streaming(
                text=TEXT,
                speaker=SPEAKER,
                language=LANGUAGE,
                max_new_tokens=FRAMES,
                min_new_tokens=FRAMES,
                **more,
            )
            return (len(samples) for samples, _rate, _timing in pieces)

        return speak

    return {name: _timed(speaking(chunk)) for name, chunk in CHUNKS.items()}


def _timed(speak: Callable[[], Iterator[int]]) -> Told:
    """The best of a few after one that warms up; with prompt and codec, over the sound made."""
    runs = [_one(speak) for _ in range(ROUNDS + 1)][1:]
    return {name: round(min(run[name] for run in runs), 3) for name in runs[0]}


def _one(speak: Callable[[], Iterator[int]]) -> dict[str, float]:
    began_s = time.perf_counter()
    first_s, samples = None, 0
    for count in speak():
        if count and first_s is None:
            first_s = time.perf_counter() - began_s
        samples += count
    whole_s = time.perf_counter() - began_s
    frames = samples / 24.0 / FRAME_MS
    return {"first_sound_ms": (first_s or whole_s) * 1000, "ms_a_frame": whole_s * 1000 / frames}
