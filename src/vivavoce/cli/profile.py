"""``vivavoce profile``: where the time goes inside an engine on this machine."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from vivavoce.bench.profiling import EngineProfile, LengthProfile
    from vivavoce.bench.texts import TextSource

_COLUMNS = ("p50", "p95", "max")


def profile(
    engine: Annotated[str, typer.Option("--engine", "-e", help="Which engine.")] = "piper",
    *,
    runs: Annotated[int, typer.Option("--runs", "-n", min=1, help="For each length.")] = 20,
    voice: Annotated[str | None, typer.Option(help="Which voice.")] = None,
    seed: Annotated[int | None, typer.Option(help="Fixes how the engine draws.")] = None,
    text: Annotated[
        list[str] | None, typer.Option("--text", help="Say this instead of the built-in texts.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="An engine option, NAME=VALUE.")
    ] = None,
    request_option: Annotated[
        list[str] | None,
        typer.Option("--request-option", help="An option of each request, NAME=VALUE."),
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", help="Write the report here.")] = None,
) -> None:
    """Time every stage of an engine in this process: text, model, first chunk, whole.

    Each length of text is spoken many times, with new words each time.
    """
    from rich.console import Console

    from vivavoce.bench.report import write_json

    said = _options(request_option or (), "--request-option") or None
    asked = {"voice": voice, "seed": seed, "options": said}
    how = {name: value for name, value in asked.items() if value is not None}
    found = _run(engine, _options(option or ()), _sources(text), runs=runs, how=how)
    console = Console()
    console.print(
        f"{engine}: loaded in {found.load_ms:.0f} ms, "
        f"first chunk of the first request after {found.cold.first_chunk_ms:.1f} ms, "
        f"at most {found.peak_memory_mb:.0f} MB resident"
    )
    if found.frames_per_s is not None:
        console.print(f"{found.frames_per_s:.1f} codec frames a second (median)")
    for length in found.lengths:
        console.print(length_table(length))
    if json:
        write_json(json, found.report())


def length_table(length: LengthProfile) -> Table:
    """One length of text: its stages, then what a caller sees."""
    from vivavoce.bench.tables import figure_table

    characters, audio_s = length.characters, length.audio_s
    named = [
        *((f"{name}, ms", spread) for name, spread in length.stages_ms.items()),
        ("first chunk, ms", length.first_chunk_ms),
        ("total, ms", length.total_ms),
        ("real-time factor", length.rtf),
    ]
    title = length.kind.replace("_", " ")
    if characters and audio_s:
        title += f": {characters.p50:.0f} characters, {audio_s.p50:.1f} s of sound"
    cells = [
        [name, *(getattr(spread, column, None) for column in _COLUMNS)] for name, spread in named
    ]
    return figure_table(title, ("", *_COLUMNS), cells)


def _run(
    engine: str,
    options: dict[str, Any],
    sources: dict[str, TextSource],
    *,
    runs: int,
    how: dict[str, Any],
) -> EngineProfile:
    from rich.console import Console
    from rich.progress import Progress

    import vivavoce
    from vivavoce.bench.profiling import Profiler

    with ExitStack() as stack:
        progress = stack.enter_context(Progress(console=Console(stderr=True), transient=True))
        task = progress.add_task("speaking", total=runs * len(sources))
        profiler = Profiler(sources, runs, how, on_run=lambda: progress.advance(task))
        return profiler.profile(
            engine, lambda: stack.enter_context(vivavoce.load(engine, **options))
        )


def _sources(texts: Sequence[str] | None) -> dict[str, TextSource]:
    from vivavoce.bench.texts import BUILT_IN, TextSource

    if texts:
        return {"given": TextSource(texts)}
    return {kind: TextSource(of_kind) for kind, of_kind in BUILT_IN.items()}


def _options(pairs: Sequence[str], hint: str = "--option") -> dict[str, Any]:
    """``NAME=VALUE`` pairs; a value that reads as JSON is taken as such, else as text."""
    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise typer.BadParameter(f"{pair!r} is not NAME=VALUE.", param_hint=hint)
        try:
            options[name.replace("-", "_")] = jsonlib.loads(value)
        except ValueError:
            options[name.replace("-", "_")] = value
    return options
