"""``vivavoce models``: the published models: what is here, download, verify; and random ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vivavoce.cli.options import ConfigOption, JsonOption, SetOption, settings_from
from vivavoce.errors import InputError, MissingExtra, ModelFileError, UnknownModel

if TYPE_CHECKING:
    from vivavoce.runtime.local_models import LocalModel
    from vivavoce.settings import Settings

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
    context.obj = settings_from(config, sets)
    if context.invoked_subcommand is not None:
        return
    from vivavoce.engines.neutts import published as neutts
    from vivavoce.engines.qwen3 import catalog as qwen3

    root = _root(context.obj)
    found = [*qwen3.local_models(root), *neutts.local_models(root)]
    if as_json:
        print(json.dumps([_row(local) for local in found], indent=2))
    else:
        _print_table(found)


@models.command()
def download(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            help="Its name, as `vivavoce models` lists it, or a Piper voice like en_GB-alba-medium."
        ),
    ],
) -> None:
    """Download a published model or voice; what was broken off is finished."""
    from vivavoce.engines.neutts import published as neutts
    from vivavoce.engines.piper.voice_files import is_voice_name
    from vivavoce.engines.qwen3 import catalog as qwen3

    root = _root(context.obj)
    if is_voice_name(name):
        print(_download_voice(context.obj, name))
    elif neutts.published_name(name) is not None:
        print(neutts.download_model(name, root))
    else:
        try:
            print(qwen3.download_model(name, root))
        except UnknownModel as error:
            raise _unknown(name) from error


@models.command()
def verify(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(help="A model's folder or file, or its name if it is here.")
    ],
) -> None:
    """Check every tensor's name, shape and type, the tokenizer, and the sums that are known."""
    from vivavoce.engines.neutts import published as neutts

    path = _path_of(model, _root(context.obj))
    if path.is_file() or _holds_neutts(path):
        for file, said in neutts.verify(path).items():
            print(f"{file}: {said}")
        return
    _verify_qwen3(path)


@models.command("random")
def random_model(
    name: NameArgument,
    folder: Annotated[Path, typer.Argument(help="Where to write it: a new or empty folder.")],
    tiny: Annotated[bool, typer.Option("--tiny", help="Under 30 MB, same topology.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Other weights for each.")] = 0,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            "--tokenizer",
            help="Folder with vocab.json, merges.txt and tokenizer_config.json, instead of the "
            "published ones.",
        ),
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
    from vivavoce.testing.random_qwen3 import make_random_checkpoint

    print(
        make_random_checkpoint(
            name, folder, tiny=tiny, seed=seed, tokenizer=tokenizer, eos_gain=eos_gain
        )
    )


def _root(settings: Settings) -> Path:
    return settings.data_dir / MODELS_FOLDER


def _unknown(name: str) -> UnknownModel:
    from vivavoce.engines.neutts.family import REPOS
    from vivavoce.engines.qwen3.catalog import MODELS

    return UnknownModel(name, [*(each.name for each in MODELS), *REPOS])


def _download_voice(settings: Settings, name: str) -> Path:
    """A Piper voice, to where ``--voice NAME`` finds it."""
    from vivavoce.engines.options import parse_options
    from vivavoce.engines.piper.options import PiperOptions
    from vivavoce.engines.piper.voice_files import download_voice
    from vivavoce.engines.piper.voices import download_folder

    options = parse_options(PiperOptions, "piper", settings.engines.get("piper", {}))
    return download_voice(name, download_folder(options), options.download_repo).model


def _path_of(model: str, root: Path) -> Path:
    """What a path or a name means. Raises SetupError, UnknownModel."""
    from vivavoce.engines.neutts import published as neutts
    from vivavoce.engines.qwen3 import catalog as qwen3

    path = Path(model).expanduser()
    if path.exists():
        return path
    if neutts.published_name(model) is None:
        try:
            return qwen3.find_model(model, root)
        except UnknownModel as error:
            raise InputError(f"{model} is no file or folder here, and no model's name.") from error
    found = neutts.find_model(model, root)
    if found is None:
        raise ModelFileError(f"{model} is not on this machine: vivavoce models download {model}")
    return found


def _holds_neutts(folder: Path) -> bool:
    """Whether a folder looks like a backbone or a codec of NeuTTS."""
    from vivavoce.engines.neutts.models import any_backbone_files, codec_files

    if (folder / "speech_tokenizer").exists():
        return False
    names = [each.name for each in folder.iterdir()]
    codec = codec_files(names) and "merges.txt" not in names  # Qwen3-TTS has one without the other
    return bool(any_backbone_files(names) or codec)


def _verify_qwen3(folder: Path) -> None:
    from vivavoce.engines.qwen3.catalog import compare_sums
    from vivavoce.engines.qwen3.checkpoint import open_checkpoint
    from vivavoce.engines.qwen3.tokenizer import TextTokenizer

    checkpoint = open_checkpoint(folder)
    TextTokenizer.load(folder)
    config = checkpoint.config
    tensors = len(checkpoint.model.entries), len(checkpoint.codec.entries)
    print(f"{config.kind}, size {config.size}: {tensors[0]} + {tensors[1]} tensors as expected.")
    for file, compared in compare_sums(folder).items():
        print(f"{file}: {compared}")


def _random_neutts(name: str, folder: Path, *, tiny: bool, seed: int) -> Path:
    from importlib.util import find_spec

    if find_spec("gguf") is None or find_spec("onnx") is None:
        raise MissingExtra("Writing a random NeuTTS model", "neutts")
    from vivavoce.testing.random_gguf import make_random_gguf
    from vivavoce.testing.random_neucodec import make_random_codec

    codec = "codec.onnx" if tiny else "codec.safetensors"
    quantization: Literal["F32", "Q4_0"] = "F32" if tiny else "Q4_0"
    make_random_gguf(
        name, folder / "backbone.gguf", small=tiny, quantization=quantization, seed=seed
    )
    make_random_codec(folder / codec, tiny=tiny, seed=seed)
    return folder


def _row(local: LocalModel) -> dict[str, Any]:
    return {
        "model": local.name,
        "repo": local.repo,
        "revision": local.revision,
        "kind": local.kind,
        "size": local.size,
        "licence": local.licence,
        "download_bytes": local.download_bytes,
        "folder": str(local.folder) if local.folder else None,
        "verified": local.verified,
    }


def _print_table(found: list[LocalModel]) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    longest = max(len(local.name) for local in found)
    name = Column("Model", min_width=longest)  # a name that is cut short is no name
    table = Table(name, "Kind", "Download", "Licence", "Here", box=None, pad_edge=False)
    for local in found:
        here = "no"
        if local.folder:
            here = f"{local.folder} ({'verified' if local.verified else 'not verified'})"
        size = f"{local.download_bytes / 1e9:.1f} GB" if local.download_bytes else "?"
        table.add_row(local.name, local.kind, size, local.licence, here)
    Console().print(table)
