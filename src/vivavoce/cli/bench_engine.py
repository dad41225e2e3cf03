"""``vivavoce bench engine``, ``quality`` and ``recipe``: measured without your server."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vivavoce.cli.options import (
    ConfigOption,
    LanguageOption,
    ModelOption,
    SetOption,
    VoiceOption,
    grouped,
    settings_from,
)

if TYPE_CHECKING:
    from vivavoce.speech.synthesizer import SpeechParameters

Option = typer.Option


def bench_engine(
    *,
    part: Annotated[
        list[str] | None,
        Option(help="correct, kernels, frames, load, server or peer; may be given many times. All "
               "of them by default."),
    ] = None,
    size: Annotated[Literal["0.6B", "1.7B"], Option(help="Which model.")] = "0.6B",
    tiny: Annotated[bool, Option("--tiny", help="A tiny model, to try it out.")] = False,
    device: Annotated[Literal["auto", "cpu", "cuda"], Option(help="Where.")] = "auto",
    rows: Annotated[
        list[int] | None,
        Option(min=1, help="Rows at a time; may be given many times. Those that the card has no "
               "memory for are left out."),
    ] = None,
    precision: Annotated[
        list[str] | None,
        Option(help="Weights: none, int8, fp8; may be given many times.  [default: none, int8]"),
    ] = None,
    seconds: Annotated[float, Option(min=0.1, help="Length of each load run.")] = 20.0,
    checkpoint: Annotated[
        Path | None, Option(help="A CustomVoice checkpoint instead of random weights.")
    ] = None,
    keep: Annotated[
        Path | None, Option(help="Keep the random weights in this folder, for the next part.")
    ] = None,
    json: Annotated[
        Path | None, Option("--json", help="Put what is found into this file.")
    ] = None,
) -> None:  # fmt: skip
    """Measure the Qwen3-TTS engine on this device, with random weights of true size.

    Each part is a run of its own and takes minutes; a file keeps the other parts' results, and
    each precision's as soon as it is there. The status is 1 where something failed.
    """
    from dataclasses import replace
    from functools import partial

    from vivavoce.bench.engine.printing import lines
    from vivavoce.bench.engine.setting import Setting, default_rows, make_checkpoint
    from vivavoce.bench.engine.suites import NO_CUDA, PARTS, failures, merge, run_part

    parts = _known(part or [*PARTS], PARTS)
    found = _device(device)
    if found == "cpu":
        print(NO_CUDA)
    with tempfile.TemporaryDirectory() as temporary:
        folder = checkpoint or make_checkpoint(size, keep or Path(temporary), tiny=tiny)
        setting = Setting(
            folder,
            size,
            found,
            tuple(sorted(set(rows or default_rows(found, tiny=tiny)))),
            tuple(precision or ("none", "int8")),
            seconds,
            tiny,
        )
        failed = False
        for each in parts:
            if json is not None:
                setting = replace(setting, keep=partial(merge, json, setting.name, each))
            told = run_part(each, setting)
            print(f"\n{setting.name}, {each} ({told['took_s']} s)")
            print(lines(each, told))
            if json is not None:
                merge(json, setting.name, each, told)
            failed = failed or bool(failures(told))
    if failed:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class SpokenOptions:
    """What both weights say."""

    voice: VoiceOption = None
    language: LanguageOption = None
    text: Annotated[
        list[str] | None, Option("--text", help="Say this; may be given many times.")
    ] = None
    texts: Annotated[Path | None, Option("--texts", help="A file, one text a line.")] = None
    seed: Annotated[int, Option(min=0, help="The same for both of a pair.")] = 0
    max_frames: Annotated[
        int | None, Option("--max-frames", min=1, help="The longest utterance, in frames.")
    ] = None


@grouped
def bench_quality(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where to write: a new or empty folder.")
    ],
    *,
    engine: Annotated[str, Option("--engine", "-e", help="Which engine.")] = "qwen3",
    model: ModelOption = None,
    quantize: Annotated[str, Option(help="Compared with whole weights: int8 or fp8.")] = "int8",
    spoken: SpokenOptions,
    config: ConfigOption = None,
    sets: SetOption = None,
) -> None:
    """Write pairs of sound files, from whole and from quantized weights, to be compared blind.

    Both have the same words and seed. Which is which is told by key.json alone.
    """
    from rich.console import Console
    from rich.progress import Progress

    from vivavoce.bench.blind_pairs import KEY, TEXTS, Order, write_pairs
    from vivavoce.bench.texts import read_texts
    from vivavoce.engines.registry import known_options

    settings = settings_from(
        config, sets, engine=engine, model_id=model, default_voice=spoken.voice
    )
    given = (*(spoken.text or ()), *(read_texts(spoken.texts) if spoken.texts else ())) or TEXTS
    how: SpeechParameters = {"language": spoken.language}
    if spoken.max_frames:
        how["options"] = {"max_frames": spoken.max_frames}
    own = known_options(engine, settings.shared_options) | settings.engine_options
    order = Order(engine, own, quantize, given, spoken.seed, how)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("speaking", total=2 * len(given))
        key = write_pairs(order, folder, on_spoken=lambda: progress.advance(task))
    print(f"{len(key['pairs'])} pairs in {folder}. Listen before you open {KEY}.")


def bench_recipe(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Which; without it, all are listed.")] = None,
) -> None:
    """Measure again what the documents tell: a recipe with its own options, or the list of them.

    `vivavoce bench recipe NAME -- --help` shows a recipe's options.
    """
    from vivavoce.bench.recipes.book import recipes, run

    known = recipes()
    if name is None:
        width = max(map(len, known))
        for each, summary in known.items():
            print(f"{each:{width}}  {summary}")
        return
    if name not in known:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(known)}.")
    if status := run(name, context.args):
        raise typer.Exit(status)


def _known(parts: list[str], known: Mapping[str, str]) -> list[str]:
    for each in parts:
        if each not in known:
            raise typer.BadParameter(f"{each!r} is none of {', '.join(known)}.")
    return parts


def _device(asked: str) -> str:
    from vivavoce.engines.qwen3.device import choose_place
    from vivavoce.engines.qwen3.options import Qwen3Options

    return str(choose_place(Qwen3Options(device=asked)).device.type)  # type: ignore[arg-type]
