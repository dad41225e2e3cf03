"""The algorithm that NeuTTS is published with, as far as it is described."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

CODES = 250
"""The length of an utterance."""
CHUNK, LOOKBACK, LOOKFORWARD, OVERLAP = 25, 50, 5, 1
HOP = 480
SPEECH = re.compile(r"<\|speech_(\d+)\|>")


def published_stream(llama: Any, session: Any, prompt: str, reference: list[int]) -> Any:
    """Sound as the published algorithm hands it out."""
    cache, given, decoded = list(reference), 0, len(reference)
    windows: list[np.ndarray] = []
    stream = llama.create_completion(
        prompt,
        max_tokens=CODES,
        temperature=1.0,
        top_k=50,
        stop=["<|SPEECH_GENERATION_END|>"],
        stream=True,
    )
    for item in stream:
        cache += [int(code) for code in SPEECH.findall(item["choices"][0]["text"])]
        if len(cache) - decoded < CHUNK + LOOKFORWARD:
            continue
        start = max(decoded - LOOKBACK - OVERLAP, 0)
        stop = decoded + CHUNK + LOOKFORWARD + OVERLAP
        cut = (decoded - start) * HOP
        sound = decode(session, cache[start:stop])
        windows.append(sound[cut : cut + (CHUNK + 2 * OVERLAP) * HOP])
        joined = overlap_add(windows, CHUNK * HOP)
        yield joined[given : len(windows) * CHUNK * HOP]
        given = len(windows) * CHUNK * HOP
        decoded += CHUNK
    if len(cache) > decoded:
        rest = len(cache) - decoded
        start = max(decoded - LOOKBACK - OVERLAP, 0)
        sound = decode(session, cache[start:])
        windows.append(sound[(decoded - start) * HOP :])
        yield overlap_add(windows, CHUNK * HOP)[given : given + rest * HOP]


def decode(session: Any, codes: list[int]) -> np.ndarray:
    """Sound of codes."""
    values = np.array(codes, np.int32)[None, None]
    return np.asarray(session.run(None, {"codes": values})[0]).reshape(-1)


def overlap_add(windows: list[np.ndarray], stride: int) -> np.ndarray:
    """All windows, each weighted with a triangle, over the whole history."""
    total = stride * (len(windows) - 1) + len(windows[-1])
    total = max(total, *(stride * n + len(each) for n, each in enumerate(windows)))
    sound, weight = np.zeros(total, np.float32), np.zeros(total, np.float32)
    for number, each in enumerate(windows):
        at = np.linspace(0, 1, len(each) + 2, dtype=np.float32)[1:-1]
        triangle = 0.5 - np.abs(at - 0.5)
        start = number * stride
        sound[start : start + len(each)] += triangle * each
        weight[start : start + len(each)] += triangle
    return sound / np.maximum(weight, 1e-8)
