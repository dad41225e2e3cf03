"""No click at any join of Piper's speech, and streams that equal the whole at the same seed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from _pytest.mark import ParameterSet
from numpy.typing import NDArray

from quality.live import LiveServer, serving
from quality.routes import ROUTES, Order, Rendition
from vivavoce.testing.clicks import find_clicks

CLAUSES = {
    "list": "One apple, two pears, three plums, four cherries, and five oranges.",
    "turns": "Yes. No. Well, perhaps; who knows? I do! Do you, by any chance?",
    "call": (
        "Thank you for calling, my name is Joe. Your order number 4711 was shipped on March 3, "
        "and it should arrive by Friday at 5 PM. Is there anything else?"
    ),
    "paragraphs": "The first ends here.\n\nThe second, a little longer, ends there.\n\nDone.",
    "long": "and then we walked along the river and over the old bridge " * 6,
}
SEED = {"seed": 11}
CLICK = 0.1
PHONE_CLICK = 0.3
STREAMED = tuple(route for route in ROUTES if route != "say")
OWN_HZ = 22_050
LEAST_BIT = 1 / 32_768


def some(names: Iterable[str], usual: str) -> list[ParameterSet]:
    """Parameters of which all but one are slow."""
    slow = pytest.mark.slow
    return [pytest.param(name, marks=() if name == usual else slow) for name in names]


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with serving("piper", {"audio_cache_max": 0}) as live:
        yield live


def speech(
    server: LiveServer, route: str, text: str, rendition: Rendition = Rendition.WIDE, **more: object
) -> NDArray[np.float32]:
    return ROUTES[route](server, Order(text, rendition, SEED | more))


@pytest.mark.parametrize("rendition", Rendition)
@pytest.mark.parametrize("name", CLAUSES)
@pytest.mark.parametrize("route", some(STREAMED, "stream/pcm"))
def test_no_join_clicks(server: LiveServer, route: str, name: str, rendition: Rendition) -> None:
    sound = speech(server, route, CLAUSES[name], rendition)
    assert len(sound) > 2 * rendition.rate_hz
    assert find_clicks(sound, rendition.rate_hz) == []


@pytest.mark.slow
@pytest.mark.parametrize("text", CLAUSES.values(), ids=CLAUSES)
def test_no_join_clicks_in_a_file(server: LiveServer, text: str) -> None:
    sound = speech(server, "say", text)
    assert find_clicks(sound, Rendition.WIDE.rate_hz) == []


@pytest.mark.parametrize("speed", [0.7, 1.6])
def test_no_join_clicks_at_another_speed(server: LiveServer, speed: float) -> None:
    sound = speech(server, "stream/pcm", CLAUSES["call"], speed=speed)
    assert find_clicks(sound, Rendition.WIDE.rate_hz) == []


def test_a_planted_click_is_found(server: LiveServer) -> None:
    """The test above can fail: a cut of 2 ms, a repeat of 2 ms and a jump are seen."""
    sound, rate_hz = speech(server, "stream/pcm", CLAUSES["long"]), Rendition.WIDE.rate_hz
    short = round(0.002 * rate_hz)
    draw = np.random.default_rng(5)
    places = draw.choice(loud_places(sound, rate_hz), 20, replace=False)
    found = {"cut": 0, "repeat": 0, "jump": 0}
    for at in places:
        cut = np.delete(sound, slice(at, at + short))
        repeat = np.concatenate([sound[: at + short], sound[at:]])
        jump = sound.copy()
        jump[at:] += CLICK
        for kind, spoilt in (("cut", cut), ("repeat", repeat), ("jump", jump)):
            around = spoilt[at - rate_hz // 2 : at + rate_hz // 2]
            found[kind] += bool(find_clicks(around, rate_hz))
    assert found["jump"] >= 18, found
    assert min(found.values()) >= 12, found


def test_a_planted_click_is_found_on_the_phone(server: LiveServer) -> None:
    sound = speech(server, "stream/pcm", CLAUSES["long"], Rendition.PHONE)
    rate_hz, draw = Rendition.PHONE.rate_hz, np.random.default_rng(6)
    found = 0
    for at in draw.choice(loud_places(sound, rate_hz), 20, replace=False):
        jump = sound.copy()
        jump[at:] += PHONE_CLICK
        found += bool(find_clicks(jump[at - rate_hz // 2 : at + rate_hz // 2], rate_hz))
    assert found >= 10


def loud_places(sound: NDArray[np.float32], rate_hz: int) -> NDArray[np.int64]:
    """Where a click would matter: sound within, well away from the ends."""
    width = rate_hz // 50
    level = np.convolve(np.abs(sound), np.ones(width) / width, "same")
    places = np.flatnonzero(level > 0.02)
    return places[(places > rate_hz // 2) & (places < len(sound) - rate_hz // 2)]


@pytest.mark.parametrize("name", some(CLAUSES, "turns"))
def test_every_route_speaks_the_same_samples(server: LiveServer, name: str) -> None:
    whole = speech(server, "speech", CLAUSES[name])
    for route in STREAMED:
        np.testing.assert_array_equal(speech(server, route, CLAUSES[name]), whole)


@pytest.mark.parametrize("name", some(CLAUSES, "turns"))
def test_clause_by_clause_is_the_same_sound(server: LiveServer, name: str) -> None:
    as_made = pcm_at_own_rate(server, CLAUSES[name], "token")
    assert pcm_at_own_rate(server, CLAUSES[name], "sentence") == as_made

    # Resampled in other portions, a sample may round the other way.
    as_made_24k = speech(server, "stream/pcm", CLAUSES[name])
    by_clause_24k = speech(server, "stream/pcm", CLAUSES[name], stream_mode="sentence")
    np.testing.assert_allclose(by_clause_24k, as_made_24k, rtol=0, atol=1.01 * LEAST_BIT)


def pcm_at_own_rate(server: LiveServer, text: str, stream_mode: str) -> bytes:
    body = {"input": text, "stream_mode": stream_mode, **SEED}
    with server.client() as client:
        answer = client.post("/v1/audio/speech/stream/pcm", json=body).raise_for_status()
    assert answer.headers["X-PCM-Sample-Rate"] == str(OWN_HZ)
    return answer.content


def test_other_callers_do_not_alter_the_sound(server: LiveServer) -> None:
    from concurrent.futures import ThreadPoolExecutor

    alone = speech(server, "stream/pcm", CLAUSES["call"])
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda _: speech(server, "stream/pcm", CLAUSES["call"]), range(6)))
    for sound in together:
        np.testing.assert_array_equal(sound, alone)
