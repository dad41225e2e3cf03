"""More callers than there is room for, and one long text among short ones.

    vivavoce bench recipe overload [--before CHECKOUT] [--part rate long]

``rate``: the most calls a second that the server speaks with as many callers as it has slots (its
peak), then callers who come at twice that rate: what is spoken of it (goodput), how quickly the
others are turned away (timed in the server), live callers before batches, and what is left.
``long``: first sound of one caller and of four who take short turns, beside nobody else, beside
somebody who speaks short turns all the time, and beside somebody who has one text of 5,000
characters spoken. With ``--before`` another checkout
is measured beside this one. Writes benchmarks/results/overload.json.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from vivavoce.bench.texts import SURNAMES, invented_surname

from .loop_lag import Trees, servers_running
from .turns import Result, before_option, commit_of
from .watched_server import Heard, Watched, ask, ratio, rounded, scheduling

PARTS = ("rate", "long")
ENGINES: dict[str, dict[str, Any]] = {
    "fake": {"fake": {"step_ms": 5.0}, "capacity": 8, "max_queue_depth": 8},
    "piper": {"max_queue_depth": 8},
}
TURN = "says that the table for two is booked."
LONG_CHARS = 5_000
OTHERS = (1, 4)
COMPANY = ("nobody", "short", "long")
BATCH_SHARE = 0.5
TARGETS = {
    "rate": "goodput at least 95 % of the peak; rejects p99 at most 10 ms; nothing left",
    "long": "others' first sound at most 20 % later",
}


def turn() -> str:
    """A short text that was not said before."""
    return f"{invented_surname(random.randrange(SURNAMES))} {TURN}"


def body(text: str, **more: Any) -> dict[str, Any]:
    """A request for plain samples."""
    return {"input": text, "response_format": "pcm", **more}


def health(port: int) -> dict[str, Any]:
    """What the server says of itself."""
    answer = httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False)
    return dict(answer.json())


def buckets(port: int, name: str) -> dict[float, float]:
    """A histogram's counts by their upper bounds, in seconds; nothing where there is none."""
    exposition = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    return {
        float(sample.labels["le"]): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
        if sample.name == f"{name}_bucket"
    }


def rejects(before: dict[float, float], after: dict[float, float]) -> dict[str, Any] | None:
    """The shares of rejects that were done within some milliseconds, and the bound of the p99."""
    counts = {le: after[le] - before.get(le, 0.0) for le in sorted(after)}
    total = counts.get(float("inf"), 0.0)
    if not total:
        return None
    bound_s = next(le for le, count in counts.items() if count >= 0.99 * total)
    return {
        "count": int(total),
        "p99_within_ms": bound_s * 1000,
        "within_10_ms": round(counts[0.01] / total, 4),
        "within_2.5_ms": round(counts[0.0025] / total, 4),
    }


async def closed_loop(port: int, callers: int, seconds: float) -> float:
    """Calls a second that are spoken with so many callers who call again at once."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    done = 0

    async def caller() -> None:
        nonlocal done
        while loop.time() < began_s + seconds:
            heard = await ask(port, body(turn()))
            done += heard.status == 200

    await asyncio.gather(*(caller() for _ in range(callers)))
    return done / (loop.time() - began_s)


async def open_loop(port: int, rate_hz: float, seconds: float) -> list[tuple[str, Heard, float]]:
    """Calls that come at random at that rate: class, answer, and when it was whole."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    calls: list[asyncio.Task[tuple[str, Heard, float]]] = []

    async def call() -> tuple[str, Heard, float]:
        kind = "batch" if random.random() < BATCH_SHARE else "realtime"
        heard = await ask(port, body(turn(), priority=kind))
        return kind, heard, loop.time() - began_s

    while loop.time() < began_s + seconds:
        calls.append(asyncio.create_task(call()))
        await asyncio.sleep(random.expovariate(rate_hz))
    return list(await asyncio.gather(*calls))


def overloaded(port: int, seconds: float) -> dict[str, Any]:
    """The peak and twice that, one after the other and again, since machines change their pace."""
    capacity = health(port)["capacity"]
    asyncio.run(closed_loop(port, capacity, 2.0))
    peaks, goodputs, answers = [], [], []
    before = buckets(port, "tts_reject_seconds")
    for _ in range(3):
        peaks.append(asyncio.run(closed_loop(port, capacity, seconds)))
        found = asyncio.run(open_loop(port, 2 * max(peaks), seconds))
        goodputs.append(sum(h.status == 200 and at_s < seconds for _, h, at_s in found) / seconds)
        answers += found
    after = buckets(port, "tts_reject_seconds")
    left = health(port)
    spoken = {
        kind: [heard for each, heard, _ in answers if each == kind and heard.status == 200]
        for kind in ("realtime", "batch")
    }
    turned_away = [heard.total_ms for _, heard, _ in answers if heard.status == 429]
    return {
        "capacity": capacity,
        "peak_calls_per_s": [round(each, 2) for each in peaks],
        "goodput_calls_per_s": [round(each, 2) for each in goodputs],
        "goodput_of_peak": ratio(sum(goodputs), sum(peaks)),
        "statuses": dict(Counter(heard.status for _, heard, _ in answers)),
        "rejects_in_server": rejects(before, after),
        "rejects_at_client_ms": rounded(turned_away) if turned_away else None,
        "first_sound_ms": {
            kind: rounded(each.first_ms for each in heard)
            for kind, heard in spoken.items()
            if heard
        },
        "left": {name: left[name] for name in ("running", "queue_depth")},
    }


async def beside(port: int, others: int, company: str | None, count: int) -> list[float]:
    """First sounds of ``others`` who take short turns with pauses, while somebody speaks on."""
    long_text = (f"{turn()} " * 200)[:LONG_CHARS]
    found: list[float] = []

    async def company_of() -> None:
        while True:
            await ask(port, body(long_text if company == "long" else turn()))

    async def other() -> None:
        for _ in range(count):
            heard = await ask(port, body(turn()))
            if heard.first_ms is not None:
                found.append(heard.first_ms)
            await asyncio.sleep(random.uniform(0.0, 0.1) if others == 1 else random.uniform(0.3, 1))

    talking = asyncio.create_task(company_of()) if company else None
    await asyncio.sleep(0.3)
    await asyncio.gather(*(other() for _ in range(others)))
    if talking is not None:
        talking.cancel()
        await asyncio.wait({talking})
    while (await asyncio.to_thread(health, port))["running"]:  # noqa: ASYNC110 - in the server
        await asyncio.sleep(0.05)
    return found


def long_among_short(ports: dict[str, int], rounds: int) -> dict[str, Any]:
    """The companies in turn, in every checkout, again and again; beside one caller and four."""
    times: dict[str, dict[tuple[int, str], list[float]]] = {
        name: {case: [] for case in itertools.product(OTHERS, COMPANY)} for name in ports
    }
    cases = itertools.product(range(rounds), ports.items(), OTHERS, COMPANY)
    for _, (name, port), others, company in cases:
        asked = None if company == "nobody" else company
        times[name][others, company] += asyncio.run(
            beside(port, others, asked, 10 if others == 1 else 5)
        )
    return {
        name: {str(others): told(found, others) for others in OTHERS}
        for name, found in times.items()
    }


def told(found: dict[tuple[int, str], list[float]], others: int) -> dict[str, Any]:
    """First sounds of so many others by who speaks beside them, and how much later a long text
    makes them than nobody, and than short turns."""
    return {
        **{f"beside_{each}_ms": rounded(found[others, each]) for each in COMPANY},
        "long_over_nobody_p50": ratio(p50(found[others, "long"]), p50(found[others, "nobody"])),
        "long_over_short_p50": ratio(p50(found[others, "long"]), p50(found[others, "short"])),
    }


def p50(values: list[float]) -> float:
    """The middle one."""
    return rounded(values)["p50"]


def options(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    before_option(parser)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--engine", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    parser.add_argument("--seconds", type=float, default=15.0, help="of each rate, three times")
    parser.add_argument("--rounds", type=int, default=6, help="of ten short turns each")


def main(asked: argparse.Namespace) -> Result:
    """Measure the parts that were asked for."""
    trees: Trees = {"before": asked.before} if asked.before else {}
    trees["after"] = None
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        for engine in asked.engine:
            how = {"engine": engine, "audio_cache_max": 0, **ENGINES[engine]}
            servers = {each: Watched(tree, Path(name), **how) for each, tree in trees.items()}
            with servers_running(servers):
                ports = {each: server.port for each, server in servers.items()}
                results[engine] = found = {}
                if "rate" in asked.part:
                    found["rate"] = {n: overloaded(p, asked.seconds) for n, p in ports.items()}
                if "long" in asked.part:
                    found["long"] = long_among_short(ports, asked.rounds)
    Console().print_json(data=results)
    where = {"scheduling": scheduling(), "before": commit_of(asked.before)}
    return Result({"targets": TARGETS, **where, "results": results})
