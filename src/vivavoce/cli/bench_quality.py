"""``vivavoce bench quality``: what quantized weights sound like beside whole ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vivavoce.cli.options import (
    ConfigOption,
    LanguageOption,
    ModelOption,
    SetOption,
    VoiceOption,
    settings_from,
)

if TYPE_CHECKING:
    from vivavoce.speech.synthesizer import SpeechParameters

Option = typer.Option


def bench_quality(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where to write: a new or empty folder.")
    ],
    *,
    engine: Annotated[str, Option("--engine", "-e", help="Which engine.")] = "qwen3",
    model: ModelOption = None,
    voice: VoiceOption = None,
    language: LanguageOption = None,
    quantize: Annotated[str, Option(help="Compared with whole weights: int8 or fp8.")] = "int8",
    text: Annotated[
        list[str] | None, Option("--text", help="Say this; may be given many times.")
    ] = None,
    texts: Annotated[Path | None, Option("--texts", help="A file, one text a line.")] = None,
    seed: Annotated[int, Option(min=0, help="The same for both of a pair.")] = 0,
    max_frames: Annotated[
        int | None, Option("--max-frames", min=1, help="The longest utterance, in frames.")
    ] = None,
    config: ConfigOption = None,
    sets: SetOption = None,
) -> None:
    """Write pairs of sound files, from whole and from quantized weights, to be compared blind.

    Both have the same words and seed. Which is which is told by key.json alone.
    """
    from rich.console import Console
    from rich.progress import Progress

    from vivavoce.bench.quality import KEY, TEXTS, Order, write_pairs
    from vivavoce.bench.texts import read_texts
    from vivavoce.engines.registry import known_options

    settings = settings_from(config, sets, engine=engine, model_id=model, default_voice=voice)
    given = (*(text or ()), *(read_texts(texts) if texts else ())) or TEXTS
    how: SpeechParameters = {"language": language}
    if max_frames:
        how["options"] = {"max_frames": max_frames}
    own = known_options(engine, settings.shared_options) | settings.engine_options
    order = Order(engine, own, quantize, given, seed, how)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("speaking", total=2 * len(given))
        key = write_pairs(order, folder, on_spoken=lambda: progress.advance(task))
    print(f"{len(key['pairs'])} pairs in {folder}. Listen before you open {KEY}.")
