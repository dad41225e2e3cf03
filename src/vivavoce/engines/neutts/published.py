"""The published backbones and codecs: what this machine has of them, download and check."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from vivavoce.engines.neutts.catalogue import (
    BACKBONES,
    CODECS,
    OWNER,
    REPOS,
    published_backbone,
    published_codec,
)
from vivavoce.engines.neutts.model_files import GRAPH, PRUNED, backbone_files
from vivavoce.engines.neutts.models import CODEC, REPO, Wanted, backbone_at, repository
from vivavoce.errors import MissingExtra, ModelFileError, UnknownModel
from vivavoce.runtime import hub
from vivavoce.runtime.hub_record import read_record
from vivavoce.runtime.local_models import LocalModel, compared, is_verified


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
    """What is in a folder or file of a backbone or codec, after a look at all of its tensors'
    names and shapes, and how its sums compare with what is known.

    Raises MissingExtra where it cannot be looked at, ModelFileError where something is wrong.
    """
    told = {str(path): _contents(path)}
    folder = path if path.is_dir() else path.parent
    record = read_record(folder)
    if record is not None:
        for name in sorted({*record.files, *record.sha256}):
            told[name] = compared(folder, name, "", held_to_it=False)
    elif path.is_file():
        told[path.name] = compared(folder, path.name, "", held_to_it=False)
    return told


def _contents(path: Path) -> str:
    """Kind and number of tensors. Raises SetupError."""
    if path.suffix == ".onnx" or (path / GRAPH).is_file():
        return _graph(path if path.is_file() else path / GRAPH)
    if path.suffix.lower() == ".gguf" or any(
        not each.name.endswith(PRUNED) for each in path.glob("*.gguf")
    ):
        return _backbone(path)
    if (path / "config.json").is_file():
        return _backbone(path)
    from vivavoce.engines.neutts.codec.decoder_weights import open_decoder

    return f"NeuCodec, {len(open_decoder(path).places)} tensors of the decoder as expected."


def _backbone(path: Path) -> str:
    found = backbone_at(path, None)
    if found.kind == "gguf":
        from vivavoce.engines.neutts.gguf.metadata import read_header

        header = read_header(found.path)
        if not header.is_whole():
            raise ModelFileError(f"{found.path} is damaged: it ends before its tensors do.")
        return f"GGUF backbone {found.path.name}, {len(header.tensors)} tensors, whole."
    if find_spec("torch") is None:
        raise MissingExtra("Checking a PyTorch backbone", "neutts-torch")
    from vivavoce.engines.neutts.torch_lm.weights import open_weights

    return f"PyTorch backbone, {len(open_weights(found.path).files)} tensors as expected."


def _graph(path: Path) -> str:
    if find_spec("onnxruntime") is None:
        raise MissingExtra("Checking a codec's graph", "neutts")
    from vivavoce.engines.neutts.codec.onnx_codec import open_onnx_codec

    open_onnx_codec(path).close()
    return "NeuCodec as a graph; it decodes."
