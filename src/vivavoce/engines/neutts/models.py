"""Where the parts of a model are on this machine: local paths, or repositories, downloaded once.

A repository lies in ``ROOT/OWNER--NAME``. ``OWNER/NAME@COMMIT`` is one commit of it; without one
the newest counts when it is first fetched. Which of a repository's or folder's files are a model is
told by their names alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from vivavoce.engines.neutts.family import Kind, published_backbone
from vivavoce.engines.neutts.options import NeuTTSOptions, models_root
from vivavoce.errors import ModelFileError, SettingsError
from vivavoce.runtime import hub

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD = re.compile(r"model-\d+-of-0*(\d+)\.safetensors")
TORCH_NEEDED = ("config.json", "tokenizer.json")
TORCH_SMALL = (
    "config.json", "generation_config.json", "tokenizer*", "vocab.json", "merges.txt",
    "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip
CHECKPOINTS = (WEIGHTS, "pytorch_model.bin")
GRAPH = "model.onnx"
PRUNED = ".pruned.gguf"
"""The end of what is made of a GGUF beside it."""


def torch_files(names: Sequence[str]) -> list[str]:
    """Safetensors with what belongs to them; none where anything essential is missing."""
    if not set(TORCH_NEEDED) <= set(names):
        return []
    weights = [name for name in names if name == WEIGHTS] or _sharded(names)
    small = [name for name in names if _is_one_of(name, TORCH_SMALL)]
    return weights + small if weights else []


def gguf_files(names: Sequence[str]) -> list[str]:
    """Every GGUF at the top, without what was made of one."""
    return [
        name
        for name in names
        if name.lower().endswith(".gguf") and "/" not in name and not name.endswith(PRUNED)
    ]


def any_backbone_files(names: Sequence[str]) -> list[str]:
    """Safetensors where there are any, else every GGUF."""
    return torch_files(names) or gguf_files(names)


def backbone_files(kind: Kind | None) -> Callable[[Sequence[str]], list[str]]:
    """What chooses a backbone of that kind; None: of either."""
    if kind is None:
        return any_backbone_files
    return torch_files if kind == "torch" else gguf_files


def codec_files(names: Sequence[str]) -> list[str]:
    """A graph with its data where there is one, else a checkpoint."""
    graphs = [GRAPH] if GRAPH in names else [n for n in names if _is_one_of(n, ("*.onnx",))]
    data = [n for graph in graphs for n in names if n in (f"{graph}.data", f"{graph}_data")]
    return graphs + data if graphs else checkpoint_files(names)


def checkpoint_files(names: Sequence[str]) -> list[str]:
    """One checkpoint: safetensors before a pickle of the same."""
    return [name for name in CHECKPOINTS if name in names][:1]


def _sharded(names: Sequence[str]) -> list[str]:
    """The index and all of its files; none where one is missing."""
    found = {name: match for name in names if (match := SHARD.fullmatch(name))}
    whole = found and all(int(match[1]) == len(found) for match in found.values())
    return [INDEX, *found] if whole and INDEX in names else []


def _is_one_of(name: str, patterns: Sequence[str]) -> bool:
    return "/" not in name and any(fnmatchcase(name, pattern) for pattern in patterns)


PART = r"[A-Za-z0-9][\w.-]{0,95}"
REPO = re.compile(rf"(?P<repo>{PART}/{PART})(?:@(?P<revision>[0-9a-f]{{40}}))?")
FILE_ENDINGS = (".gguf", ".onnx", ".bin", ".safetensors")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A part of a model; ``what`` is for messages. ``choose`` picks its files by name."""

    what: str
    choose: Callable[[Sequence[str]], Sequence[str]]


BACKBONE = Wanted("backbone", any_backbone_files)
CODEC = Wanted("codec", codec_files)
ENCODER = Wanted("encoder", checkpoint_files)


@dataclass(frozen=True, slots=True)
class FoundBackbone:
    """A folder with safetensors, or one GGUF file."""

    path: Path
    kind: Kind


def expected_kind(options: NeuTTSOptions) -> Kind | None:
    """What the backbone is, where that is known before its files are seen."""
    if options.backbone_runtime != "auto":
        return "torch" if options.backbone_runtime == "torch" else "gguf"
    path = Path(options.backbone).expanduser()
    if path.exists() or path.suffix.lower() == ".gguf":
        return "gguf" if path.suffix.lower() == ".gguf" and not path.is_dir() else None
    known = published_backbone(options.backbone)
    return None if known is None else known.kind


def locate_backbone(options: NeuTTSOptions) -> FoundBackbone:
    """The backbone, downloaded where it is a repository. Raises SetupError."""
    kind = expected_kind(options)
    return backbone_at(locate(options.backbone, models_root(options), _backbone(kind)), kind)


def find_files(options: NeuTTSOptions) -> None:
    """Find backbone and codec on this machine. Raises SetupError."""
    root, kind = models_root(options), expected_kind(options)
    backbone_at(find(options.backbone, root, _backbone(kind)), kind)
    find(options.codec_repo, root, CODEC)


def backbone_at(path: Path, kind: Kind | None) -> FoundBackbone:
    """The backbone at a path: a GGUF, or a folder with safetensors or one GGUF.

    In a folder with both the safetensors count, unless ``kind`` says otherwise. Raises
    ModelFileError where there is none, or a folder has several GGUF files; SettingsError where a
    file is not of that kind.
    """
    if path.is_file():
        return FoundBackbone(path, _kind_of_file(path, kind))
    names = [each.name for each in sorted(path.iterdir())] if path.is_dir() else []
    ggufs = gguf_files(names)
    meant = {WEIGHTS, INDEX} & set(names)  # then loading says what is missing
    if kind != "gguf" and (torch_files(names) or (meant and (kind == "torch" or not ggufs))):
        return FoundBackbone(path, "torch")
    if kind == "torch" or not ggufs:
        whats = {"torch": "safetensors", "gguf": "GGUF file"}
        raise ModelFileError(
            f"{path} holds no {whats[kind] if kind else 'safetensors and no GGUF file'}."
        )
    if len(ggufs) > 1:
        raise ModelFileError(
            f"{path} has several GGUF files; name one of them: {', '.join(ggufs)}."
        )
    return FoundBackbone(path / ggufs[0], "gguf")


def _kind_of_file(path: Path, kind: Kind | None) -> Kind:
    if path.suffix.lower() != ".gguf":
        raise ModelFileError(f"{path} is no GGUF file and no folder with safetensors.")
    if kind == "torch":
        raise SettingsError(
            f"backbone_runtime='torch' needs a folder with safetensors, and {path} is a GGUF.",
            param="backbone_runtime",
        )
    return "gguf"


def _backbone(kind: Kind | None) -> Wanted:
    whats = {"torch": "safetensors backbone", "gguf": "GGUF backbone"}
    return Wanted(whats[kind], backbone_files(kind)) if kind else BACKBONE


def locate(name: str, root: Path, wanted: Wanted) -> Path:
    """The file or folder that ``name`` is: a path that exists, or a repository, downloaded.

    Raises SettingsError for what is neither, ModelFileError where it cannot be downloaded.
    """
    return _local(name, wanted) or hub.fetch(repository(name, root, wanted))


def find(name: str, root: Path, wanted: Wanted) -> Path:
    """What ``locate`` gives, where it is on this machine already.

    Raises SettingsError as ``locate`` does, ModelFileError for what would have to be downloaded.
    """
    path = _local(name, wanted) or hub.find(repository(name, root, wanted))
    if path is None:
        raise ModelFileError(
            f"The {wanted.what} {name} is not on this machine; it is downloaded by a start with "
            f"preload_model=true, and by: vivavoce models download {name}"
        )
    return path


def repository(name: str, root: Path, wanted: Wanted) -> hub.Repository:
    """A repository and its folder below ``root``; ``name`` is ``OWNER/NAME`` or has a commit."""
    match = REPO.fullmatch(name)
    assert match is not None, name
    repo, revision = match["repo"], match["revision"] or ""
    folder = repo.replace("/", "--") + (f"@{revision[:12]}" if revision else "")
    return hub.Repository(repo, root / folder, wanted.what, wanted.choose, revision)


def _local(name: str, wanted: Wanted) -> Path | None:
    """The path that ``name`` is; None for a repository. Raises SettingsError for neither."""
    path = Path(name).expanduser()
    if path.exists():
        return path
    if path.suffix in FILE_ENDINGS or not REPO.fullmatch(name):
        raise SettingsError(
            f"{name!r} is neither a file or folder here nor a repository like "
            f"'neuphonic/neutts-nano-q4-gguf'.",
            param=f"{wanted.what.split()[-1]}_repo",
        )
    return None
