"""``vivavoce bench``: how fast, and for how many callers, a running server speaks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vivavoce.cli.options import grouped

if TYPE_CHECKING:
    from rich.console import Console

    from vivavoce.bench.clients import Target
    from vivavoce.bench.heard import Listening
    from vivavoce.bench.load import ClosedLoop, OpenLoop
    from vivavoce.bench.results import Setup
    from vivavoce.bench.session import Outcome, Session
    from vivavoce.bench.texts import TextSource

Option = typer.Option
_WHOM, _LOAD, _TEXT, _HEAR, _OUT = "Server", "Load", "Texts", "Listening", "Results"


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Which server, and how it is asked."""

    url: Annotated[str, Option(help="The server.", rich_help_panel=_WHOM)] = "http://127.0.0.1:8000"
    api_key: Annotated[
        str | None,
        Option(
            envvar="VIVAVOCE_API_KEYS",
            show_envvar=True,
            help="Sent as a bearer token; of a list separated by commas, the first.",
            rich_help_panel=_WHOM,
        ),
    ] = None
    transport: Annotated[
        Literal["http", "ws"], Option(help="HTTP or WebSocket.", rich_help_panel=_WHOM)
    ] = "http"
    path: Annotated[
        str | None,
        Option(
            "--path",
            help="Another path, such as /v1/audio/speech/stream/pcm.",
            rich_help_panel=_WHOM,
        ),
    ] = None
    response_format: Annotated[
        Literal["pcm", "wav"], Option("--format", help="What HTTP asks for.", rich_help_panel=_WHOM)
    ] = "pcm"
    sample_rate: Annotated[
        int | None, Option(min=8000, max=48000, help="In Hz.", rich_help_panel=_WHOM)
    ] = None
    voice: Annotated[str | None, Option(rich_help_panel=_WHOM)] = None
    model: Annotated[str | None, Option(rich_help_panel=_WHOM)] = None
    timeout: Annotated[
        float, Option(min=0.1, help="Seconds for one request.", rich_help_panel=_WHOM)
    ] = 60.0

    def target(self) -> Target:
        """The server as clients are told of it."""
        from vivavoce.bench.clients import Target

        key = self.api_key.partition(",")[0].strip() if self.api_key else None
        asked = (self.path, self.response_format, self.sample_rate, self.voice, self.model)
        return Target(self.url, self.transport, *asked, key, self.timeout)


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """Who calls, and when."""

    concurrency: Annotated[
        int, Option("--concurrency", "-c", min=1, help="Callers at once.", rich_help_panel=_LOAD)
    ] = 1
    rps: Annotated[
        float | None,
        Option(
            min=0.001,
            help="Open loop: requests a second, Poisson arrivals, however slow the "
            "answers; latency counts from when each was due.",
            rich_help_panel=_LOAD,
        ),
    ] = None
    requests: Annotated[
        int | None,
        Option(
            "--requests",
            "-n",
            min=1,
            help="How many in all; with --find-max, turns of each call.",
            rich_help_panel=_LOAD,
        ),
    ] = None
    duration: Annotated[
        float | None, Option(min=0.1, help="Seconds to go on for.", rich_help_panel=_LOAD)
    ] = None
    think: Annotated[
        float,
        Option(min=0, help="Seconds a caller waits before the next turn.", rich_help_panel=_LOAD),
    ] = 0.0
    play_out: Annotated[
        bool, Option("--play-out", help="Callers listen to the end first.", rich_help_panel=_LOAD)
    ] = False
    ramp: Annotated[
        float, Option(min=0, help="Seconds over which callers start.", rich_help_panel=_LOAD)
    ] = 0.0
    seed: Annotated[int, Option(help="Fixes the arrivals.", rich_help_panel=_LOAD)] = 0
    warmup: Annotated[
        int, Option(min=0, help="Requests that are not counted.", rich_help_panel=_LOAD)
    ] = 2
    find_max: Annotated[
        bool,
        Option(
            "--find-max",
            help="Find how many calls at once all succeed without an underrun.",
            rich_help_panel=_LOAD,
        ),
    ] = False
    max_calls: Annotated[
        int, Option(min=1, help="Where --find-max stops.", rich_help_panel=_LOAD)
    ] = 256
    compare_playback: Annotated[
        bool,
        Option(
            "--compare-playback",
            help="What a caller waits when the server plays before it "
            "answers, beside other ways; needs a server with playback.",
            rich_help_panel=_LOAD,
        ),
    ] = False

    @property
    def is_more_than_rounds(self) -> bool:
        """Whether it asks for a load, and not for one caller's turns."""
        return bool(self.find_max or self.rps or self.duration or self.concurrency > 1)

    def load(self) -> ClosedLoop | OpenLoop:
        """The load these options mean; what was left open gets its default."""
        from vivavoce.bench.load import ClosedLoop, OpenLoop

        if self.rps is not None:
            if self.find_max:
                raise typer.BadParameter("--find-max counts calls; it cannot go with --rps.")
            endless = self.requests is None and self.duration is None
            duration_s = _DEFAULT_OPEN_S if endless else self.duration
            return OpenLoop(self.rps, self.requests, duration_s, self.seed)
        return ClosedLoop(
            concurrency=self.concurrency,
            requests=self._requests(),
            duration_s=self.duration,
            think_s=self.think,
            play_out=self.play_out or self.find_max,
            ramp_s=self.ramp,
            seed=self.seed,
        )

    def _requests(self) -> int | None:
        if self.requests is not None or self.duration is not None:
            return self.requests
        return _DEFAULT_TURNS if self.find_max else _DEFAULT_REQUESTS_EACH * self.concurrency

    def expected(self) -> int | None:
        """How many requests will come, where that is known."""
        if self.duration is not None:
            return None
        return self.requests if self.rps is not None else self._requests()


@dataclass(frozen=True, slots=True)
class TextsOptions:
    """What is said."""

    text: Annotated[
        list[str] | None,
        Option(
            "--text",
            help="Say this; may be given many times. {name} becomes a new name.",
            rich_help_panel=_TEXT,
        ),
    ] = None
    texts: Annotated[
        Path | None, Option("--texts", help="A file, one text a line.", rich_help_panel=_TEXT)
    ] = None
    repeat_texts: Annotated[
        bool,
        Option(
            "--repeat-texts",
            help="Same words each time, so that caches may answer.",
            rich_help_panel=_TEXT,
        ),
    ] = False

    def source(self) -> TextSource:
        """The texts one after the other."""
        from vivavoce.bench.texts import TextSource, read_texts

        given = [*(self.text or ()), *(read_texts(self.texts) if self.texts else ())]
        return TextSource(given or None, repeat=self.repeat_texts)


@dataclass(frozen=True, slots=True)
class ListeningOptions:
    """How callers listen."""

    buffer_ms: Annotated[
        list[float] | None,
        Option(
            "--buffer-ms",
            min=0,
            help="Client buffer; may be given many times. The first one "
            "decides --find-max.  [default: 0, 40, 100]",
            rich_help_panel=_HEAR,
        ),
    ] = None
    threshold_dbfs: Annotated[
        float, Option(max=0, help="From here on sound is audible.", rich_help_panel=_HEAR)
    ] = -50.0

    def listening(self) -> Listening:
        """When a caller hears something."""
        from vivavoce.bench.heard import Listening

        buffers_ms = tuple(self.buffer_ms) if self.buffer_ms else _DEFAULT_BUFFERS_MS
        return Listening(buffers_ms, self.threshold_dbfs)


@dataclass(frozen=True, slots=True)
class ResultOptions:
    """What is shown and kept."""

    json: Annotated[
        Path | None, Option("--json", help="Write the report here.", rich_help_panel=_OUT)
    ] = None
    each: Annotated[
        bool,
        Option(
            "--each", help="Show every request, and put it into the JSON.", rich_help_panel=_OUT
        ),
    ] = False
    compare: Annotated[
        Path | None, Option(help="An earlier JSON to compare with.", rich_help_panel=_OUT)
    ] = None


_DEFAULT_BUFFERS_MS = (0.0, 40.0, 100.0)
_DEFAULT_OPEN_S = 30.0
_DEFAULT_REQUESTS_EACH = 10
_DEFAULT_TURNS = 3
_DEFAULT_ROUNDS = 5


@grouped
def bench(
    server: ServerOptions,
    load: LoadOptions,
    said: TextsOptions,
    listening: ListeningOptions,
    results: ResultOptions,
) -> None:
    """Measure a running server: latency as a listener hears it, stalls, how many calls fit.

    By default one caller asks ten times, with new words each time.
    """
    from vivavoce.bench.results import Setup, read_json
    from vivavoce.bench.session import Session

    target, source = server.target(), said.source()
    if load.compare_playback:
        if load.is_more_than_rounds or results.each or results.compare or server.path:
            raise typer.BadParameter(
                "It goes with --requests, --warmup, --json, texts and a target.",
                param_hint="--compare-playback",
            )
        rounds = load.requests or _DEFAULT_ROUNDS
        _compare_playback(target, source, rounds, load.warmup, results.json)
        return
    setup = Setup(target, load.load(), listening.listening())
    session = Session(setup, source, load.warmup)
    before = read_json(results.compare) if results.compare else None
    outcome = _search(session, load.max_calls) if load.find_max else _measure(session, load)
    _show(setup, outcome, results, before)
    if outcome.summary.ok == 0:
        raise typer.Exit(1)


def _measure(session: Session, load: LoadOptions) -> Outcome:
    from rich.progress import Progress

    with Progress(console=_console(stderr=True), transient=True) as progress:
        task = progress.add_task("speaking", total=load.expected())
        return asyncio.run(session.measure(lambda measure: progress.advance(task)))


def _search(session: Session, limit: int) -> Outcome:
    console = _console(stderr=True)

    def note(calls: int, summary: Any) -> None:
        stalls = summary.playback[0].underruns if summary.playback else 0
        verdict = "clean" if summary.clean else f"{stalls} underruns, errors {summary.errors}"
        console.print(f"{calls:4d} calls: {verdict}", highlight=False)

    return asyncio.run(session.search(note, limit=limit))


def _compare_playback(
    target: Target, texts: TextSource, rounds: int, warmup: int, json: Path | None
) -> None:
    from rich.progress import Progress

    from vivavoce.bench.answer_modes import COLUMNS, WAYS, Comparison
    from vivavoce.bench.results import figure_table, write_json

    comparison = Comparison(target, texts)
    with Progress(console=_console(stderr=True), transient=True) as progress:
        task = progress.add_task("speaking", total=rounds * len(WAYS))
        asyncio.run(comparison.perform(rounds, warmup, lambda _: progress.advance(task)))
    _console().print(figure_table("What a caller waits; medians, ms", COLUMNS, comparison.rows()))
    if json:
        write_json(json, comparison.report())


def _show(
    setup: Setup, outcome: Outcome, results: ResultOptions, before: dict[str, Any] | None
) -> None:
    from vivavoce.bench.results import (
        bench_report,
        changes,
        changes_view,
        differences,
        each_table,
        summary_view,
        write_json,
    )

    console = _console()
    console.print(summary_view(outcome.summary))
    if results.each:
        console.print(each_table(outcome.measures))
    if outcome.search:
        console.print(f"Calls at once without failure or underrun: {outcome.search.max_calls}")
    each = outcome.measures if results.each else None
    report = bench_report(setup, outcome.summary, search=outcome.search, each=each)
    if results.json:
        write_json(results.json, report)
    if before:
        console.print(changes_view(changes(before, report)))
        for difference in differences(before, report):
            console.print(f"Not the same: {difference}", style="yellow", highlight=False)


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr)
