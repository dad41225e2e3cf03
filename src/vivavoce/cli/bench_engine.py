"""``vivavoce bench engine``: how fast the Qwen3-TTS engine itself is on this device."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

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

    from vivavoce.bench.engine.lines import lines
    from vivavoce.bench.engine.parts import NO_CUDA, PARTS, failures, merge, run_part
    from vivavoce.bench.engine.setting import Setting, default_rows, make_checkpoint

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


def _known(parts: list[str], known: Mapping[str, str]) -> list[str]:
    for each in parts:
        if each not in known:
            raise typer.BadParameter(f"{each!r} is none of {', '.join(known)}.")
    return parts


def _device(asked: str) -> str:
    from vivavoce.engines.qwen3.device import choose_place
    from vivavoce.engines.qwen3.options import Qwen3Options

    return str(choose_place(Qwen3Options(device=asked)).device.type)  # type: ignore[arg-type]
