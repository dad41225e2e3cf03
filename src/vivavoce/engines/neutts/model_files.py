"""Which of a repository's or folder's files are a model, by their names alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from vivavoce.engines.neutts.catalog import Kind

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
