"""``vivavoce profile``: where the time goes inside an engine on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vivavoce.cli.options import (
    ConfigOption,
    ModelOption,
    SetOption,
    VoiceOption,
    settings_from,
    typed_pairs,
)

if TYPE_CHECKING:
    from rich.table import Table

    from vivavoce.bench.profiling import EngineProfile, LengthProfile
    from vivavoce.bench.stats import Distribution
    from vivavoce.bench.texts import TextSource
    from vivavoce.settings import Settings
    from vivavoce.speech.synthesizer import SpeechParameters

_COLUMNS = ("p50", "p95", "max")


def profile(
    engine: Annotated[
        str | None, typer.Option("--engine", "-e", help="The engine that speaks.")
    ] = None,
    *,
    model: ModelOption = None,
    runs: Annotated[int, typer.Option("--runs", "-n", min=1, help="For each length.")] = 20,
    voice: VoiceOption = None,
    seed: Annotated[int | None, typer.Option(help="Fixes how the engine draws.")] = None,
    text: Annotated[
        list[str] | None, typer.Option("--text", help="Say this instead of the built-in texts.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", help="An engine's option for each text, name=value."),
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", help="Write the report here.")] = None,
    config: ConfigOption = None,
    sets: SetOption = None,
) -> None:
    """Time every stage of an engine in this process: text, model, first chunk, whole.

    Each length of text is spoken many times, with new words each time.
    """
    from vivavoce.bench.results import write_json

    settings = settings_from(config, sets, engine=engine, model_id=model)
    said = typed_pairs(option or (), "--option")
    how: SpeechParameters = {"voice": voice, "options": said}
    if seed is not None:
        how["seed"] = seed
    found = _run(settings, _sources(text), runs=runs, how=how)
    _print(found)
    if json:
        write_json(json, found.report())


def _print(found: EngineProfile) -> None:
    from rich.console import Console

    console = Console()
    line = (
        f"{found.engine} ({found.model}) on {found.device}: loaded in {found.load_ms:.0f} ms, "
        f"first chunk of the first request after {found.cold.first_chunk_ms:.1f} ms"
    )
    if found.peak_memory_mb is not None:
        line += f", at most {found.peak_memory_mb:.0f} MB resident"
    console.print(line, markup=False)
    if found.frames_per_s is not None:
        console.print(f"{found.frames_per_s:.1f} codec frames a second (median)")
    for length in found.lengths:
        console.print(length_table(length))


def length_table(length: LengthProfile) -> Table:
    """One length of text: its stages, then what a caller sees."""
    from vivavoce.bench.results import figure_table

    characters, audio_s = length.characters, length.audio_s
    named = [
        *((f"{name}, ms", spread) for name, spread in length.stages_ms.items()),
        *_of_tokens(length),
        ("first chunk, ms", length.first_chunk_ms),
        ("first audible sample, ms", length.audible_ms),
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


def _of_tokens(length: LengthProfile) -> list[tuple[str, Distribution | None]]:
    """For engines whose model makes one token at a time."""
    if length.first_token_ms is None:
        return []
    return [("first token, ms", length.first_token_ms), ("tokens a second", length.tokens_per_s)]


def _run(
    settings: Settings, sources: dict[str, TextSource], *, runs: int, how: SpeechParameters
) -> EngineProfile:
    from rich.console import Console
    from rich.progress import Progress

    from vivavoce.bench.profiling import Profiler
    from vivavoce.cli.speaking import open_synthesizer

    with ExitStack() as stack:
        progress = stack.enter_context(Progress(console=Console(stderr=True), transient=True))
        task = progress.add_task("speaking", total=runs * len(sources))
        profiler = Profiler(sources, runs, how, on_run=lambda: progress.advance(task))
        return profiler.profile(lambda: stack.enter_context(open_synthesizer(settings)))


def _sources(texts: Sequence[str] | None) -> dict[str, TextSource]:
    from vivavoce.bench.texts import BUILT_IN, TextSource

    if texts:
        return {"given": TextSource(texts)}
    return {kind: TextSource(of_kind) for kind, of_kind in BUILT_IN.items()}
