"""``vivavoce bench``: how fast, and for how many callers, a running server speaks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from vivavoce.bench.clients import Target
    from vivavoce.bench.report import Setup
    from vivavoce.bench.runner import ClosedLoop, OpenLoop
    from vivavoce.bench.session import Outcome, Session
    from vivavoce.bench.texts import TextSource

Option = typer.Option
_WHOM, _LOAD, _TEXT, _HEAR, _OUT = "Server", "Load", "Texts", "Listening", "Results"

Url: TypeAlias = Annotated[str, Option(help="The server.", rich_help_panel=_WHOM)]
ApiKey: TypeAlias = Annotated[
    str | None,
    Option(envvar="VIVAVOCE_API_KEYS", show_envvar=True, help="Sent as a bearer token; of a "
           "list separated by commas, the first.",
           rich_help_panel=_WHOM),
]  # fmt: skip
TransportName: TypeAlias = Annotated[
    Literal["http", "ws"], Option(help="HTTP or WebSocket.", rich_help_panel=_WHOM)
]
UrlPath: TypeAlias = Annotated[
    str | None,
    Option("--path", help="Another path, such as /v1/audio/speech/stream/pcm.",
           rich_help_panel=_WHOM),
]  # fmt: skip
Format: TypeAlias = Annotated[
    Literal["pcm", "wav"], Option("--format", help="What HTTP asks for.", rich_help_panel=_WHOM)
]
SampleRate: TypeAlias = Annotated[
    int | None, Option(min=8000, max=48000, help="In Hz.", rich_help_panel=_WHOM)
]
VoiceName: TypeAlias = Annotated[str | None, Option(rich_help_panel=_WHOM)]
ModelName: TypeAlias = Annotated[str | None, Option(rich_help_panel=_WHOM)]
Timeout: TypeAlias = Annotated[
    float, Option(min=0.1, help="Seconds for one request.", rich_help_panel=_WHOM)
]
Concurrency: TypeAlias = Annotated[
    int, Option("--concurrency", "-c", min=1, help="Callers at once.", rich_help_panel=_LOAD)
]
Rps: TypeAlias = Annotated[
    float | None,
    Option(min=0.001, help="Open loop: requests a second, Poisson arrivals, however slow the "
           "answers; latency counts from when each was due.", rich_help_panel=_LOAD),
]  # fmt: skip
Requests: TypeAlias = Annotated[
    int | None,
    Option("--requests", "-n", min=1, help="How many in all; with --find-max, turns of each call.",
           rich_help_panel=_LOAD),
]  # fmt: skip
Duration: TypeAlias = Annotated[
    float | None, Option(min=0.1, help="Seconds to go on for.", rich_help_panel=_LOAD)
]
Think: TypeAlias = Annotated[
    float, Option(min=0, help="Seconds a caller waits before the next turn.", rich_help_panel=_LOAD)
]
PlayOut: TypeAlias = Annotated[
    bool, Option("--play-out", help="Callers listen to the end first.", rich_help_panel=_LOAD)
]
Ramp: TypeAlias = Annotated[
    float, Option(min=0, help="Seconds over which callers start.", rich_help_panel=_LOAD)
]
Seed: TypeAlias = Annotated[int, Option(help="Fixes the arrivals.", rich_help_panel=_LOAD)]
WarmUp: TypeAlias = Annotated[
    int, Option(min=0, help="Requests that are not counted.", rich_help_panel=_LOAD)
]
FindMax: TypeAlias = Annotated[
    bool,
    Option("--find-max", help="Find how many calls at once all succeed without an underrun.",
           rich_help_panel=_LOAD),
]  # fmt: skip
ComparePlayback: TypeAlias = Annotated[
    bool,
    Option("--compare-playback", help="What a caller waits when the server plays before it "
           "answers, beside other ways; needs a server with playback.", rich_help_panel=_LOAD),
]  # fmt: skip
MaxCalls: TypeAlias = Annotated[
    int, Option(min=1, help="Where --find-max stops.", rich_help_panel=_LOAD)
]
Texts: TypeAlias = Annotated[
    list[str] | None,
    Option("--text", help="Say this; may be given many times. {name} becomes a new name.",
           rich_help_panel=_TEXT),
]  # fmt: skip
TextFile: TypeAlias = Annotated[
    Path | None, Option("--texts", help="A file, one text a line.", rich_help_panel=_TEXT)
]
RepeatTexts: TypeAlias = Annotated[
    bool,
    Option("--repeat-texts", help="Same words each time, so that caches may answer.",
           rich_help_panel=_TEXT),
]  # fmt: skip
Buffers: TypeAlias = Annotated[
    list[float] | None,
    Option("--buffer-ms", min=0, help="Client buffer; may be given many times. The first one "
           "decides --find-max.  [default: 0, 40, 100]", rich_help_panel=_HEAR),
]  # fmt: skip
Threshold: TypeAlias = Annotated[
    float, Option(max=0, help="From here on sound is audible.", rich_help_panel=_HEAR)
]
JsonFile: TypeAlias = Annotated[
    Path | None, Option("--json", help="Write the report here.", rich_help_panel=_OUT)
]
Each: TypeAlias = Annotated[
    bool, Option("--each", help="Show every request, and put it into the JSON.",
                 rich_help_panel=_OUT)
]  # fmt: skip
Compare: TypeAlias = Annotated[
    Path | None, Option(help="An earlier JSON to compare with.", rich_help_panel=_OUT)
]

_DEFAULT_BUFFERS_MS = (0.0, 40.0, 100.0)
_DEFAULT_OPEN_S = 30.0
_DEFAULT_REQUESTS_EACH = 10
_DEFAULT_TURNS = 3
_DEFAULT_ROUNDS = 5


def bench(
    *,
    url: Url = "http://127.0.0.1:8000",
    api_key: ApiKey = None,
    transport: TransportName = "http",
    path: UrlPath = None,
    response_format: Format = "pcm",
    sample_rate: SampleRate = None,
    voice: VoiceName = None,
    model: ModelName = None,
    timeout: Timeout = 60.0,
    concurrency: Concurrency = 1,
    rps: Rps = None,
    requests: Requests = None,
    duration: Duration = None,
    think: Think = 0.0,
    play_out: PlayOut = False,
    ramp: Ramp = 0.0,
    seed: Seed = 0,
    warmup: WarmUp = 2,
    find_max: FindMax = False,
    max_calls: MaxCalls = 256,
    compare_playback: ComparePlayback = False,
    text: Texts = None,
    texts: TextFile = None,
    repeat_texts: RepeatTexts = False,
    buffer_ms: Buffers = None,
    threshold_dbfs: Threshold = -50.0,
    json: JsonFile = None,
    each: Each = False,
    compare: Compare = None,
) -> None:
    """Measure a running server: latency as a listener hears it, stalls, how many calls fit.

    By default one caller asks ten times, with new words each time.
    """
    from vivavoce.bench.clients import Target
    from vivavoce.bench.measures import Listening
    from vivavoce.bench.report import Setup
    from vivavoce.bench.session import Session

    choice = _LoadChoice(rps, concurrency, requests, duration, find_max)
    buffers_ms = tuple(buffer_ms) if buffer_ms else _DEFAULT_BUFFERS_MS
    key = api_key.partition(",")[0].strip() if api_key else None
    source = _text_source(text, texts, repeat=repeat_texts)
    target = Target(url, transport, path, response_format, sample_rate, voice, model, key, timeout)
    if compare_playback:
        if find_max or each or compare or path or rps or duration or concurrency > 1:
            raise typer.BadParameter(
                "It goes with --requests, --warmup, --json, texts and a target.",
                param_hint="--compare-playback",
            )
        _compare_playback(target, source, requests or _DEFAULT_ROUNDS, warmup, json)
        return
    setup = Setup(
        target,
        choice.load(think_s=think, play_out=play_out, ramp_s=ramp, seed=seed),
        Listening(buffers_ms, threshold_dbfs),
    )
    session = Session(setup, source, warmup)
    before = _read_before(compare)
    outcome = _search(session, max_calls) if find_max else _measure(session, choice)
    _show(setup, outcome, _Results(json, each, before))
    if outcome.summary.ok == 0:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class _LoadChoice:
    rps: float | None
    concurrency: int
    requests: int | None
    duration_s: float | None
    find_max: bool

    def load(
        self, *, think_s: float, play_out: bool, ramp_s: float, seed: int
    ) -> ClosedLoop | OpenLoop:
        """The load these options mean; what was left open gets its default."""
        from vivavoce.bench.runner import ClosedLoop, OpenLoop

        if self.rps is not None:
            if self.find_max:
                raise typer.BadParameter("--find-max counts calls; it cannot go with --rps.")
            endless = self.requests is None and self.duration_s is None
            duration_s = _DEFAULT_OPEN_S if endless else self.duration_s
            return OpenLoop(self.rps, self.requests, duration_s, seed)
        return ClosedLoop(
            concurrency=self.concurrency,
            requests=self._requests(),
            duration_s=self.duration_s,
            think_s=think_s,
            play_out=play_out or self.find_max,
            ramp_s=ramp_s,
            seed=seed,
        )

    def _requests(self) -> int | None:
        if self.requests is not None or self.duration_s is not None:
            return self.requests
        return _DEFAULT_TURNS if self.find_max else _DEFAULT_REQUESTS_EACH * self.concurrency

    def expected(self) -> int | None:
        """How many requests will come, where that is known."""
        if self.duration_s is not None:
            return None
        return self.requests if self.rps is not None else self._requests()


@dataclass(frozen=True, slots=True)
class _Results:
    json: Path | None
    each: bool
    before: dict[str, Any] | None


def _text_source(text: Sequence[str] | None, path: Path | None, *, repeat: bool) -> TextSource:
    from vivavoce.bench.texts import TextSource, read_texts

    given = [*(text or ()), *(read_texts(path) if path else ())]
    return TextSource(given or None, repeat=repeat)


def _read_before(path: Path | None) -> dict[str, Any] | None:
    from vivavoce.bench.report import read_json

    return read_json(path) if path else None


def _measure(session: Session, choice: _LoadChoice) -> Outcome:
    from rich.progress import Progress

    with Progress(console=_console(stderr=True), transient=True) as progress:
        task = progress.add_task("speaking", total=choice.expected())
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

    from vivavoce.bench.report import write_json
    from vivavoce.bench.tables import figure_table
    from vivavoce.bench.ways import COLUMNS, WAYS, Comparison

    comparison = Comparison(target, texts)
    with Progress(console=_console(stderr=True), transient=True) as progress:
        task = progress.add_task("speaking", total=rounds * len(WAYS))
        asyncio.run(comparison.perform(rounds, warmup, lambda _: progress.advance(task)))
    _console().print(figure_table("What a caller waits; medians, ms", COLUMNS, comparison.rows()))
    if json:
        write_json(json, comparison.report())


def _show(setup: Setup, outcome: Outcome, results: _Results) -> None:
    from vivavoce.bench.report import bench_report, changes, differences, write_json
    from vivavoce.bench.tables import changes_view, each_table, summary_view

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
    if results.before:
        console.print(changes_view(changes(results.before, report)))
        for difference in differences(results.before, report):
            console.print(f"Not the same: {difference}", style="yellow", highlight=False)


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr)
