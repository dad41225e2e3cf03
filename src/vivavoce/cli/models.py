"""``vivavoce models``: the Qwen3-TTS models: what is here, download, verify; random ones of both
engines that have models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vivavoce.cli.options import ConfigOption, JsonOption, SetOption, settings_from
from vivavoce.errors import MissingExtra

if TYPE_CHECKING:
    from vivavoce.engines.qwen3.hub import LocalModel

MODELS_FOLDER = "models"

models = typer.Typer(name="models", add_completion=False, pretty_exceptions_enable=False)

NameArgument = Annotated[str, typer.Argument(help="Its name, as `vivavoce models` lists it.")]


@models.callback(invoke_without_command=True)
def listing(
    context: typer.Context,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    sets: SetOption = None,
) -> None:
    """List the published models, and download, verify or make one."""
    context.obj = settings_from(config, sets).data_dir / MODELS_FOLDER
    if context.invoked_subcommand is not None:
        return
    from vivavoce.engines.qwen3.hub import local_models

    found = local_models(context.obj)
    if as_json:
        print(json.dumps([_row(local) for local in found], indent=2))
    else:
        _print_table(found)


@models.command()
def download(context: typer.Context, name: NameArgument) -> None:
    """Download a published model; what was broken off is finished."""
    from vivavoce.engines.qwen3.hub import download_model

    print(download_model(name, context.obj))


@models.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="A model folder in the published layout.")],
) -> None:
    """Check every tensor's name, shape and type, the tokenizer, and the sums that are known."""
    from vivavoce.engines.qwen3.checkpoint import open_checkpoint
    from vivavoce.engines.qwen3.hub import compare_sums
    from vivavoce.engines.qwen3.tokenizer import TextTokenizer

    checkpoint = open_checkpoint(folder)
    TextTokenizer.load(folder)
    config = checkpoint.config
    tensors = len(checkpoint.model.entries), len(checkpoint.codec.entries)
    print(f"{config.kind}, size {config.size}: {tensors[0]} + {tensors[1]} tensors as expected.")
    for file, compared in compare_sums(folder).items():
        print(f"{file}: {compared}")


@models.command("random")
def random_model(
    name: NameArgument,
    folder: Annotated[Path, typer.Argument(help="Where to write it: a new or empty folder.")],
    tiny: Annotated[bool, typer.Option("--tiny", help="Under 30 MB, same topology.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Other weights for each.")] = 0,
    tokenizer: Annotated[
        Path | None,
        typer.Option("--tokenizer", help="Folder with vocab.json, merges.txt and its config."),
    ] = None,
    eos_gain: Annotated[
        float,
        typer.Option("--eos-gain", min=0.0, help="Above 1 ends sooner; 0: speech never ends."),
    ] = 1.0,
) -> None:
    """Write a checkpoint with random weights in the published layout, for tests and benchmarks.

    NAME is one of the listed ones, or neutts-nano, neutts-air, neutts-2e: then the folder gets
    backbone.gguf, and codec.onnx (tiny) or codec.safetensors.
    """
    if name.startswith("neutts-"):
        print(_random_neutts(name, folder, tiny=tiny, seed=seed))
        return
    from vivavoce.engines.qwen3.random_checkpoint import make_random_checkpoint

    print(
        make_random_checkpoint(
            name, folder, tiny=tiny, seed=seed, tokenizer=tokenizer, eos_gain=eos_gain
        )
    )


def _random_neutts(name: str, folder: Path, *, tiny: bool, seed: int) -> Path:
    from importlib.util import find_spec

    if find_spec("gguf") is None or find_spec("onnx") is None:
        raise MissingExtra("Writing a random NeuTTS model", "neutts")
    from vivavoce.engines.neutts.codec.random_codec import make_random_codec
    from vivavoce.engines.neutts.gguf.random_gguf import make_random_gguf

    codec = "codec.onnx" if tiny else "codec.safetensors"
    quantisation: Literal["F32", "Q4_0"] = "F32" if tiny else "Q4_0"
    make_random_gguf(
        name, folder / "backbone.gguf", small=tiny, quantisation=quantisation, seed=seed
    )
    make_random_codec(folder / codec, tiny=tiny, seed=seed)
    return folder


def _row(local: LocalModel) -> dict[str, Any]:
    return {
        "model": local.model.name,
        "repo": local.model.repo,
        "revision": local.model.revision,
        "kind": local.model.kind,
        "size": local.model.size,
        "licence": local.model.licence,
        "download_bytes": local.model.download_bytes,
        "folder": str(local.folder) if local.folder else None,
        "verified": local.verified,
    }


def _print_table(found: list[LocalModel]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("Model", "Kind", "Download", "Licence", "Here", box=None, pad_edge=False)
    for local in found:
        here = "no"
        if local.folder:
            here = f"{local.folder} ({'verified' if local.verified else 'not verified'})"
        size = f"{local.model.download_bytes / 1e9:.1f} GB"
        table.add_row(local.model.name, local.model.kind, size, local.model.licence, here)
    Console().print(table)
