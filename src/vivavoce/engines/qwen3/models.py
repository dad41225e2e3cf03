"""Published models by name: downloaded once, checked, found again without a network.

A model lies in ``ROOT/NAME`` in the published layout. The codec's weights are the same file in
every model: it is kept once in ``ROOT/speech_tokenizers`` under its sum, and linked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vivavoce.engines.qwen3.catalog import (
    CODEC_SHA256,
    MODELS,
    SMALL_SUMS,
    PublishedModel,
    published,
)
from vivavoce.engines.qwen3.checkpoint import CODEC_WEIGHTS, FILES, WEIGHTS
from vivavoce.engines.qwen3.config import Qwen3Config
from vivavoce.errors import ModelFileError, UnknownModel
from vivavoce.runtime import hub
from vivavoce.runtime.hub_record import read_record
from vivavoce.runtime.local_models import LocalModel, compared, is_verified

SHARED = "speech_tokenizers"
EXTRA_FILES = (
    "preprocessor_config.json",
    "speech_tokenizer/configuration.json",
    "speech_tokenizer/preprocessor_config.json",
)
"""Not read here, but part of the published layout."""


def repository(model: PublishedModel, root: Path) -> hub.Repository:
    """Where a model comes from, and its folder below ``root``."""
    return hub.Repository(
        model.repo,
        root / model.name,
        "Qwen3-TTS checkpoint",
        model_files,
        model.revision,
        model.sha256,
        {CODEC_WEIGHTS: root / SHARED / f"{CODEC_SHA256}.safetensors"},
    )


def model_files(names: Sequence[str]) -> list[str]:
    """The files of a checkpoint; none where one that is read is missing."""
    if not set(FILES) <= set(names):
        return []
    return [*FILES, *(name for name in EXTRA_FILES if name in names)]


def local_models(root: Path) -> list[LocalModel]:
    """Every published model, and what this machine has of it."""
    found = []
    for model in MODELS:
        folder = hub.find(repository(model, root))
        found.append(
            LocalModel(
                model.name,
                model.repo,
                model.kind,
                model.licence,
                model.download_bytes,
                model.revision,
                model.size,
                folder,
                is_verified(folder, {WEIGHTS, CODEC_WEIGHTS}),
            )
        )
    return found


def find_model(name: str | Path, root: Path) -> Path:
    """The folder of a model: a path that exists, or a published name that was downloaded.

    Raises UnknownModel, and ModelFileError that says how to get a model that is not here.
    """
    if Path(name).is_dir():
        return Path(name)
    model = published(str(name))
    found = hub.find(repository(model, root))
    if found is None:
        raise ModelFileError(
            f"{model.name} is not on this machine ({model.download_bytes / 1e9:.1f} GB): "
            f"vivavoce models download {model.name}"
        )
    return found


def download_model(name: str, root: Path) -> Path:
    """Find a published model, or fetch it into ``root``. Raises UnknownModel, SetupError."""
    return hub.fetch(repository(published(name), root))


def compare_sums(folder: Path) -> dict[str, str]:
    """For each file of a model folder, how its SHA-256 compares with what is known.

    The small files that are those that are published stand together. Raises ModelFileError where
    a file has changed since it arrived, or was downloaded and is not the published one.
    """
    record = read_record(folder)
    model = _model_of(folder, record.repo if record is not None else "")
    held = record is not None and model is not None and record.revision == model.revision
    sums = dict(model.sha256) if model is not None else {CODEC_WEIGHTS: CODEC_SHA256}
    told = {
        file: compared(folder, file, sums.get(file, ""), held_to_it=held)
        for file in (WEIGHTS, CODEC_WEIGHTS)
    }
    small = [name for name in SMALL_SUMS if (folder / name).is_file()]
    same = [name for name in small if hub.sha256_of(folder / name) == SMALL_SUMS[name]]
    if same:
        told[", ".join(same)] = "as published."
    for name in sorted(set(small) - set(same)):
        told[name] = f"not the published file, which has {SMALL_SUMS[name]}."
    return told | _config_sum(folder, model)


def _config_sum(folder: Path, model: PublishedModel | None) -> dict[str, str]:
    """Of config.json the sums are known by their beginnings and ends."""
    if model is None or not any(model.config_sum):
        return {}
    digest = hub.sha256_of(folder / "config.json")
    first, last = model.config_sum
    same = digest.startswith(first) and digest.endswith(last)
    said = "as published, as far as that is known" if same else "not the published file, which has"
    return {"config.json": f"{said}: {first}…{last}."}


def _model_of(folder: Path, repo: str) -> PublishedModel | None:
    """The published model that a folder is, or is like."""
    try:
        return published(repo)
    except UnknownModel:
        config = Qwen3Config.load(folder)
    size = {"0b6": "0.6B", "1b7": "1.7B"}.get(config.size, config.size)
    like = (model for model in MODELS if (model.kind, model.size) == (config.kind, size))
    return next(like, None)
