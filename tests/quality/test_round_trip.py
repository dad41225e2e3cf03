"""What is spoken can be understood: word error rates of a speech recognizer.

The default run hears every fourth sentence, through one route. All of them, through every route
and in both renditions, are marked slow; ``vivavoce bench recipe quality`` keeps their figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from quality.live import LiveServer, serving
from quality.recognition import Score, error_rate, explain, hear, score
from quality.rendition import piper_own
from quality.routes import ROUTES, Order, Rendition
from quality.sentences import SENTENCES, Sentence

LIMITS = {Rendition.WIDE: 0.05, Rendition.PHONE: 0.08}
OVER_PIPER = 0.02
NO_NOISE = {"options": {"noise_scale": 0.0, "noise_w_scale": 0.0}}


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with serving("piper", {"audio_cache_max": 0}) as live:
        yield live


def heard_through(
    server: LiveServer, route: str, rendition: Rendition, sentences: Sequence[Sentence] = SENTENCES
) -> list[Score]:
    scores = []
    for sentence in sentences:
        sound = ROUTES[route](server, Order(sentence.text, rendition, NO_NOISE))
        scores.append(score(sentence.name, sentence.reference, hear(sound, rendition.rate_hz)))
    return scores


@pytest.fixture(scope="module")
def piper_rate() -> dict[Rendition, float]:
    """piper-tts's own error rate for the same words."""
    return {
        rendition: error_rate(
            score(one.name, one.reference, hear(piper_own(one.text, rendition), rendition.rate_hz))
            for one in SENTENCES
        )
        for rendition in Rendition
    }


@pytest.mark.timeout(300)
def test_speech_is_understood(server: LiveServer) -> None:
    scores = heard_through(server, "speech", Rendition.WIDE, SENTENCES[::4])
    assert error_rate(scores) <= LIMITS[Rendition.WIDE], explain(scores)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("rendition", Rendition)
@pytest.mark.parametrize("route", ROUTES)
def test_every_route_is_understood(
    server: LiveServer,
    piper_rate: dict[Rendition, float],
    route: str,
    rendition: Rendition,
) -> None:
    scores = heard_through(server, route, rendition)
    assert error_rate(scores) <= LIMITS[rendition], explain(scores)
    assert error_rate(scores) <= piper_rate[rendition] + OVER_PIPER, explain(scores)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_speech_with_the_voices_own_noise_is_understood(server: LiveServer) -> None:
    scores = []
    for sentence in SENTENCES:
        sound = ROUTES["speech"](server, Order(sentence.text, fields={"seed": 7}))
        scores.append(score(sentence.name, sentence.reference, hear(sound, 24_000)))
    assert error_rate(scores) <= LIMITS[Rendition.WIDE], explain(scores)
