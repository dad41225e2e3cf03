"""How late the event loop is while sixteen calls of a format are spoken, and what others feel.

    vivavoce bench recipe loop_lag [--before CHECKOUT] [--part formats remembered first]

``formats``: sixteen paced calls of each format at 48,000 Hz on the fake engine; the lag of the
server's event loop, measured inside it, and the time of ``/livez``. ``remembered``: 16 and 64
callers ask at once for 30 s of remembered mp3 while one live caller speaks. ``first``: first sound
of single sentences on Piper. With ``--before`` another checkout is measured turn by turn beside
this one, and ratios are told. Writes benchmarks/results/loop_lag.json.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from vivavoce.bench.texts import SURNAMES, invented_surname

from .turns import Result, before_option, commit_of
from .watched_server import Heard, Watched, ask, probe, ratio, rounded, scheduling

FORMATS = ("pcm", "wav", "ulaw", "mp3", "aac", "opus", "ogg", "flac")
PARTS = ("formats", "remembered", "first")
CALLS, RATE_HZ = 16, 48_000
PROBE_EVERY_S = 0.02
SENTENCE = "says that the table for two is booked, that the train is late, and that all is well."
LONG = "This has been said before, and it is said again. " * 10
TARGETS = {
    "formats": "/livez p99 at most 10 ms with 16 paced calls of any format at 48,000 Hz",
    "remembered": "each asker gets a slot, a place or 429; the live caller is not starved",
    "first": "first sound within 3 % of before, paired",
}
Trees = dict[str, Path | None]


async def probing(port: int, every_s: float = PROBE_EVERY_S) -> list[float]:
    """/livez again and again until cancelled; milliseconds."""
    found: list[float] = []
    try:
        while True:
            found.append((await probe(port)).total_ms)
            await asyncio.sleep(every_s)
    except asyncio.CancelledError:
        return found


async def speaking(port: int, encoding: str, until_s: float) -> list[Heard]:
    """One caller who calls again and again."""
    loop, heard = asyncio.get_running_loop(), []
    await asyncio.sleep(random.uniform(0.0, 0.5))
    while loop.time() < until_s:
        name = invented_surname(random.randrange(SURNAMES))
        body = {"input": f"{name} {SENTENCE}", "response_format": encoding, "sample_rate": RATE_HZ}
        heard.append(await ask(port, body))
    return heard


async def under_calls(port: int, encoding: str, seconds: float) -> tuple[list[Heard], list[float]]:
    """The answers of sixteen callers, and the times of /livez meanwhile."""
    until_s = asyncio.get_running_loop().time() + seconds
    watching = asyncio.create_task(probing(port))
    rounds = await asyncio.gather(*(speaking(port, encoding, until_s) for _ in range(CALLS)))
    watching.cancel()
    return list(itertools.chain(*rounds)), await watching


def formats(trees: Trees, seconds: float, folder: Path) -> dict[str, Any]:
    """Each format in each checkout, one after the other."""
    found: dict[str, Any] = {name: {} for name in trees}
    fake = {"paced": True, "sample_rate_hz": 24_000}
    how = {"engine": "fake", "fake": fake, "audio_cache_max": 0, "capacity": 64}
    servers = {name: Watched(tree, folder, **how) for name, tree in trees.items()}
    with servers_running(servers):
        for encoding, (name, server) in itertools.product(FORMATS, servers.items()):
            asyncio.run(under_calls(server.port, encoding, 1.0))
            server.lags_ms()
            heard, livez_ms = asyncio.run(under_calls(server.port, encoding, seconds))
            found[name][encoding] = {
                "loop_lag_ms": rounded(server.lags_ms()),
                "livez_ms": rounded(livez_ms),
                "first_sound_ms": rounded(each.first_ms for each in heard),
                "statuses": dict(Counter(each.status for each in heard)),
            }
    return found


def remembered(trees: Trees, folder: Path) -> dict[str, Any]:
    """A flood of what was said before, and one live caller in it."""
    found: dict[str, Any] = {name: {} for name in trees}
    how = {"engine": "fake", "capacity": 4, "max_queue_depth": 4, "audio_cache_bytes": 1 << 26}
    for count, (name, tree) in itertools.product((0, 16, 64), trees.items()):
        with Watched(tree, folder, **how) as server:
            found[name][str(count)] = asyncio.run(flood(server.port, count))
            found[name][str(count)]["loop_lag_ms"] = rounded(server.lags_ms())
    return found


async def flood(port: int, count: int) -> dict[str, Any]:
    """What one live caller and /livez feel of ``count`` callers for remembered speech."""
    body = {"input": LONG, "response_format": "mp3"}
    await ask(port, body)
    await ask(port, {"input": "Somebody is live, and warms up."})
    watching = asyncio.create_task(probing(port))
    asked = [asyncio.create_task(ask(port, body)) for _ in range(count)]
    await asyncio.sleep(0.1)
    live = [await ask(port, {"input": f"Somebody is live, number {n}."}) for n in range(10)]
    answers = await asyncio.gather(*asked)
    watching.cancel()
    spoken = [each for each in answers if each.status == 200]
    return {
        "statuses": dict(Counter(each.status for each in answers)),
        "live_first_sound_ms": rounded(each.first_ms for each in live),
        "livez_ms": rounded(await watching),
        "remembered_first_sound_ms": rounded(each.first_ms for each in spoken) if spoken else None,
        "remembered_total_ms": rounded(each.total_ms for each in spoken) if spoken else None,
    }


def first(trees: Trees, pairs: int, folder: Path) -> dict[str, Any]:
    """First sound of single sentences on Piper, the checkouts asked in turn."""
    how = {"engine": "piper", "audio_cache_max": 0}
    servers = {name: Watched(tree, folder, **how) for name, tree in trees.items()}
    with servers_running(servers):
        return {
            encoding: asyncio.run(paired({n: s.port for n, s in servers.items()}, encoding, pairs))
            for encoding in ("pcm", "mp3", "opus")
        }


async def paired(ports: dict[str, int], encoding: str, pairs: int) -> dict[str, Any]:
    """The same sentence for every server, in changing order."""
    times: dict[str, list[float]] = {name: [] for name in ports}
    order = list(ports)
    for number in range(pairs + 3):
        name = invented_surname(random.randrange(SURNAMES))
        body = {"input": f"{name} {SENTENCE}", "response_format": encoding}
        random.shuffle(order)
        for each in order:
            heard = await ask(ports[each], body)
            if number >= 3 and heard.first_ms is not None:
                times[each].append(heard.first_ms)
    found: dict[str, Any] = {f"{name}_ms": rounded(values) for name, values in times.items()}
    if "before" in times:
        each_ratio = [a / b for a, b in zip(times["after"], times["before"], strict=True)]
        found["ratio"] = rounded(each_ratio)
    return found


class servers_running:  # noqa: N801 - a context manager, read as a phrase
    """Several servers for the length of a block."""

    def __init__(self, servers: dict[str, Watched]) -> None:
        self._servers = servers

    def __enter__(self) -> None:
        for server in self._servers.values():
            server.__enter__()

    def __exit__(self, *how: Any) -> None:
        for server in self._servers.values():
            server.__exit__(*how)


def ratios(part: dict[str, Any], figure: Callable[[dict[str, Any]], float]) -> dict[str, Any]:
    """After over before, for each case of a part."""
    if "before" not in part:
        return {}
    return {
        case: ratio(figure(part["after"][case]), figure(part["before"][case]))
        for case in part["after"]
    }


def options(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    before_option(parser)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seconds", type=float, default=12.0, help="of each format")
    parser.add_argument("--pairs", type=int, default=60, help="of first sounds")


def main(asked: argparse.Namespace) -> Result:
    """Measure the parts that were asked for."""
    trees: Trees = {"before": asked.before} if asked.before else {}
    trees["after"] = None
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "formats" in asked.part:
            results["formats"] = formats(trees, asked.seconds, folder)
            results["formats"]["livez_p99_ratio"] = ratios(
                results["formats"], lambda case: case["livez_ms"]["p99"]
            )
        if "remembered" in asked.part:
            results["remembered"] = remembered(trees, folder)
            results["remembered"]["live_first_sound_p50_ratio"] = ratios(
                results["remembered"], lambda case: case["live_first_sound_ms"]["p50"]
            )
        if "first" in asked.part:
            results["first"] = first(trees, asked.pairs, folder)
    Console().print_json(data=results)
    where = {"scheduling": scheduling(), "before": commit_of(asked.before)}
    return Result({"targets": TARGETS, **where, "results": results})
