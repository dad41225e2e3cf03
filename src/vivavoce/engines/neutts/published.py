"""The published backbones and codecs: what this machine has of them, download and check."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from vivavoce.engines.neutts.family import (
    BACKBONES,
    CODECS,
    OWNER,
    REPOS,
    published_backbone,
    published_codec,
)
from vivavoce.engines.neutts.models import (
    CHECKPOINTS,
    CODEC,
    REPO,
    WEIGHTS,
    Wanted,
    any_backbone_files,
    backbone_at,
    backbone_files,
    repository,
)
from vivavoce.errors import MissingExtra, ModelFileError, UnknownModel
from vivavoce.runtime import hub
from vivavoce.runtime.hub_record import read_record
from vivavoce.runtime.local_models import LocalModel, compared, is_verified

CODEC_CHECKPOINTS = (*CHECKPOINTS, "codec.safetensors")
"""What is published, and what ``models random`` writes."""


def local_models(root: Path) -> list[LocalModel]:
    """Every published backbone and codec, and what this machine has of it."""
    listed = [
        (each.repo, f"{each.kind} backbone", each.licence, each.weights_bytes, each.family.name)
        for each in BACKBONES
    ]
    listed += [(each.repo, "codec", each.licence, each.weights_bytes, "") for each in CODECS]
    found = []
    for repo, kind, licence, size_bytes, family in listed:
        folder = hub.find(_repository(repo, root))
        found.append(
            LocalModel(
                repo,
                repo,
                kind,
                licence,
                size_bytes,
                size=family,
                folder=folder,
                verified=is_verified(folder),
            )
        )
    return found


def published_name(name: str) -> str | None:
    """``OWNER/NAME``, perhaps ``@COMMIT``, of a published repository; None for any other.

    ``name`` may leave the owner out.
    """
    for full in (name, f"{OWNER}/{name}"):
        known = published_backbone(full) or published_codec(full)
        if known is not None and REPO.fullmatch(full):
            return known.repo + full[len(known.repo) :]
    return None


def find_model(name: str, root: Path) -> Path | None:
    """The folder of a published model, where it is on this machine. Raises UnknownModel."""
    return hub.find(_repository(_known(name), root))


def download_model(name: str, root: Path) -> Path:
    """Find a published backbone or codec, or fetch it into ``root``.

    Raises UnknownModel, SetupError.
    """
    return hub.fetch(_repository(_known(name), root))


def _known(name: str) -> str:
    full = published_name(name)
    if full is None:
        raise UnknownModel(name, REPOS)
    return full


def _repository(repo: str, root: Path) -> hub.Repository:
    known = published_backbone(repo)
    wanted = CODEC if known is None else Wanted("backbone", backbone_files(known.kind))
    return repository(repo, root, wanted)


def verify(path: Path) -> dict[str, str]:
    """What a file, or each part in a folder, is: after a look at all tensors' names and shapes of a
    backbone or a checkpoint, and a try of a graph. Then how sums compare with what is known.

    Raises MissingExtra where it cannot be looked at, ModelFileError where something is wrong.
    """
    told = _file(path) if path.is_file() else _folder(path)
    folder = path if path.is_dir() else path.parent
    record = read_record(folder)
    kept = {*record.files, *record.sha256} if record is not None else set()
    names = sorted(kept or {Path(part).name for part in told if Path(part).is_file()})
    sums = {name: compared(folder, name, "", held_to_it=False) for name in names}
    return told | {f"{folder / name}, SHA-256": said for name, said in sums.items()}


def _folder(path: Path) -> dict[str, str]:
    """The backbone and the codec of a folder. Raises SetupError."""
    names = [each.name for each in sorted(path.iterdir())]
    backbone = bool(any_backbone_files(names))
    told = _backbone(path) if backbone else {}
    for name in names:
        checkpoint = name in CODEC_CHECKPOINTS and not (backbone and name == WEIGHTS)
        if name.endswith(".onnx") or checkpoint:
            told |= _file(path / name)
    if not told:
        raise ModelFileError(f"{path} holds no backbone and no codec.")
    return told


def _file(path: Path) -> dict[str, str]:
    if path.suffix == ".onnx":
        return {str(path): _graph(path)}
    if path.suffix.lower() == ".gguf":
        return _backbone(path)
    from vivavoce.engines.neutts.codec.network import open_decoder

    tensors = len(open_decoder(path).places)
    return {str(path): f"NeuCodec, {tensors} tensors of the decoder as expected."}


def _backbone(path: Path) -> dict[str, str]:
    found = backbone_at(path, None)
    if found.kind == "gguf":
        from vivavoce.engines.neutts.gguf.metadata import read_header

        header = read_header(found.path)
        if not header.is_whole():
            raise ModelFileError(f"{found.path} is damaged: it ends before its tensors do.")
        return {str(found.path): f"GGUF backbone, {len(header.tensors)} tensors, whole."}
    if find_spec("torch") is None:
        raise MissingExtra("Checking a PyTorch backbone", "neutts-torch")
    from vivavoce.engines.neutts.torch_checkpoint import open_weights

    tensors = len(open_weights(found.path).files)
    return {str(found.path): f"PyTorch backbone, {tensors} tensors as expected."}


def _graph(path: Path) -> str:
    if find_spec("onnxruntime") is None:
        raise MissingExtra("Checking a codec's graph", "neutts")
    from vivavoce.engines.neutts.codec.onnx_codec import open_onnx_codec

    open_onnx_codec(path).close()
    return "NeuCodec as a graph; it decodes."
