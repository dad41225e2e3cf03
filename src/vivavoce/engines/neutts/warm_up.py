"""The first words, which nobody hears: they bring the weights into memory and tell the speed."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from vivavoce.engines.neutts.backbone import Prompt, TokenSampling
from vivavoce.engines.neutts.ramp import Speed
from vivavoce.errors import EngineError, SetupError

if TYPE_CHECKING:
    from vivavoce.engines.neutts.backbone import Backbone
    from vivavoce.engines.neutts.codec.stream import Codec
    from vivavoce.types import Samples

REFERENCE_CODES = 16
TOKENS = 16
"""Tokens of each measurement."""

WINDOW = 55
"""Codes of a window, as in the middle of a ramp."""


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
        alone = [_step(backbone, codec_runs=False) for _ in range(TOKENS)]
        with ThreadPoolExecutor(1) as beside:
            decoding = beside.submit(_decode, codec, codes)
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
        taken.append(_step(backbone, codec_runs=True))
    return taken


def _step(backbone: Backbone, *, codec_runs: bool) -> float:
    began_s = time.perf_counter()
    backbone.step(codec_runs=codec_runs)
    return time.perf_counter() - began_s


def _decode(codec: Codec, codes: np.ndarray[tuple[int], np.dtype[np.int32]]) -> float:
    began_s = time.perf_counter()
    _: Samples = codec.decode(codes)
    return time.perf_counter() - began_s
