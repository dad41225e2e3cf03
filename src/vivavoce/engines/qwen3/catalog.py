"""The published Qwen3-TTS models: where they are, what is known of their files, what is here.

Revisions are pinned, so that a download is the same tomorrow; it is checked, and found again
without a network. SHA-256 sums are here where they are published in full; of others the Hub tells
the sum when a file is fetched. A model lies in ``ROOT/NAME`` in the published layout. The codec's
weights are the same file in every model: it is kept once in ``ROOT/speech_tokenizers`` under its
sum, and linked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from vivavoce.engines.qwen3.checkpoint import CODEC_WEIGHTS, FILES, WEIGHTS
from vivavoce.engines.qwen3.config import ModelKind, Qwen3Config
from vivavoce.errors import ModelFileError, UnknownModel
from vivavoce.runtime import hub
from vivavoce.runtime.hub_record import read_record
from vivavoce.runtime.local_models import LocalModel, compared, is_verified

OWNER = "Qwen"
CODEC_SHA256 = "836b7b357f5ea43e889936a3709af68dfe3751881acefe4ecf0dbd30ba571258"
CODEC_BYTES = 682_293_092
SMALL_SUMS: Mapping[str, str] = MappingProxyType(
    {
        "generation_config.json": (
            "f1b90b4513f3b34c62851049e2492d7b4c5940daf1276f89c82b8ef04127f3aa"
        ),
        "merges.txt": "599bab54075088774b1733fde865d5bd747cbcc7a547c5bc12610e874e26f5e3",
        "tokenizer_config.json": "dc3c31c3bdaedd5016382bb3cbe07323026775ad51f5a4fb564505992ae4a670",
        "vocab.json": "ca10d7e9fb3ed18575dd1e277a2579c16d108e32f27439684afa0e10b1440910",
        "preprocessor_config.json": (
            "efdde1022ea9d76928bf7a9cd53139138f5ba2e466e837f08f6105ab1af1c119"
        ),
        "speech_tokenizer/config.json": (
            "ee65bb901c876664ab8707c487157aa1a6ee57c65969b28fb5ec9dc211e68167"
        ),
        "speech_tokenizer/configuration.json": (
            "6bc26d64eb5024b4d1dab5a52371958b429256d6c9d59787f1f5294a54e0cebd"
        ),
        "speech_tokenizer/preprocessor_config.json": (
            "fcb3805e597e786d4067706e602f6688524640f8d3396790e2e09b5942fcbdfb"
        ),
    }
)
"""Files as the checkpoints have them. To compare with, not to refuse by: that they are the same in
all five was not seen."""


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """One model. ``weights_bytes`` is about the size of model.safetensors, without the codec;
    ``weights_sha256`` its sum. Of config.json's sum the beginning and the end are known."""

    name: str
    revision: str
    kind: ModelKind
    size: str
    weights_bytes: int
    weights_sha256: str = ""
    config_sum: tuple[str, str] = ("", "")
    licence: str = "Apache-2.0"

    @property
    def sha256(self) -> Mapping[str, str]:
        """The sums of the large files, where they are known."""
        own = {WEIGHTS: self.weights_sha256} if self.weights_sha256 else {}
        return {CODEC_WEIGHTS: CODEC_SHA256} | own

    @property
    def repo(self) -> str:
        """Its repository on the Hugging Face Hub."""
        return f"{OWNER}/{self.name}"

    @property
    def download_bytes(self) -> int:
        """About what a whole download takes, the codec included."""
        return self.weights_bytes + CODEC_BYTES + 5_000_000


MODELS = (
    PublishedModel(
        "Qwen3-TTS-12Hz-0.6B-Base",
        "5d83992436eae1d760afd27aff78a71d676296fc",
        "base",
        "0.6B",
        1_829_344_272,
        "180b3b10eb1c9f1b4db7806d5475bae3071c0243c299d49926bab1da3b6946f6",
        ("2e714c78", "ba011"),
    ),
    PublishedModel(
        "Qwen3-TTS-12Hz-0.6B-CustomVoice",
        "85e237c12c027371202489a0ec509ded67b5e4b5",
        "custom_voice",
        "0.6B",
        1_811_626_576,
        config_sum=("81aca2b6", "7455"),
    ),
    PublishedModel(
        "Qwen3-TTS-12Hz-1.7B-Base",
        "fd4b254389122332181a7c3db7f27e918eec64e3",
        "base",
        "1.7B",
        3_857_413_744,
        "38fc7fc51c5e776e840414b6fd443962e9411b9654888fd7913e4da643cb857c",
        ("b4f01752", "cc1f9"),
    ),
    PublishedModel(
        "Qwen3-TTS-12Hz-1.7B-CustomVoice",
        "0c0e3051f131929182e2c023b9537f8b1c68adfe",
        "custom_voice",
        "1.7B",
        3_833_400_000,
        config_sum=("17a07f52", "9cf9"),
    ),
    PublishedModel(
        "Qwen3-TTS-12Hz-1.7B-VoiceDesign",
        "5ecdb67327fd37bb2e042aab12ff7391903235d3",
        "voice_design",
        "1.7B",
        3_833_400_000,
    ),
)


def published(name: str) -> PublishedModel:
    """The model of that name, with or without its owner. Raises UnknownModel."""
    for model in MODELS:
        if name.lower() in (model.name.lower(), model.repo.lower()):
            return model
    raise UnknownModel(name, [model.name for model in MODELS])


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
