"""Published models by name: downloaded once, checked, found again without a network.

A model lies in ``ROOT/NAME`` in the published layout. ``vivavoce.json`` beside it says that the
download is whole and which SHA-256 sums were checked. The codec's weights are the same file in
every model: it is kept once in ``ROOT/speech_tokenizers`` under its sum, and linked.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from vivavoce.engines.files.json_fields import JsonObject
from vivavoce.engines.qwen3.catalogue import CODEC_BYTES, MODELS, SUMS, PublishedModel, published
from vivavoce.engines.qwen3.checkpoint import CODEC_WEIGHTS, FILES, WEIGHTS
from vivavoce.errors import MissingExtra, ModelFileError

log = logging.getLogger(__name__)

RECORD = "vivavoce.json"
SHARED = "speech_tokenizers"
SMALL_FILES = tuple(name for name in FILES if name not in (WEIGHTS, CODEC_WEIGHTS))
EXTRA_FILES = (
    "preprocessor_config.json",
    "speech_tokenizer/configuration.json",
    "speech_tokenizer/preprocessor_config.json",
)
"""Not read here, but part of the published layout."""

BLOCK_BYTES = 1 << 20
SUM_DIGITS = 64
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Download:
    """What is known of a finished download; ``sha256`` holds the sums that were checked."""

    repo: str
    revision: str
    sha256: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A published model and where it is here: ``folder`` is None where it is not."""

    model: PublishedModel
    folder: Path | None
    download: Download | None

    @property
    def verified(self) -> bool:
        """Whether both weight files agreed with published sums when they arrived."""
        return self.download is not None and {WEIGHTS, CODEC_WEIGHTS} <= set(self.download.sha256)


def local_models(root: Path) -> list[LocalModel]:
    """Every published model, and what ``root`` holds of it. Raises ModelFileError."""
    found = []
    for model in MODELS:
        folder = root / model.name
        download = _record(folder)
        found.append(LocalModel(model, folder if download else None, download))
    return found


def find_model(name: str | Path, root: Path) -> Path:
    """The folder of a model: a path that exists, or a published name that was downloaded.

    Raises UnknownModel, and ModelFileError that says how to get a model that is not here.
    """
    if Path(name).is_dir():
        return Path(name)
    model = published(str(name))
    if _record(root / model.name) is None:
        size = _gigabytes(model.download_bytes)
        raise ModelFileError(
            f"{model.name} is not on this machine ({size}): vivavoce models download {model.name}"
        )
    return root / model.name


def download_model(name: str, root: Path) -> Path:
    """Fetch a published model into ``root``, or finish or find an earlier download of it.

    Progress bars are huggingface_hub's, on standard error. A download that was broken off goes
    on where it stopped. Raises UnknownModel, MissingExtra, and ModelFileError where the network
    or the disk fails or a file's SHA-256 is not the published one (that file is removed).
    """
    model = published(name)
    folder = root / model.name
    done = _record(folder)
    if done is not None and done.revision == model.revision:
        return folder
    hub = _Hub(model, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _require_space(model, root)
        _announce(model, folder)
        for file in (*SMALL_FILES, *EXTRA_FILES):
            hub.fetch(file)
        sums = {CODEC_WEIGHTS: _codec(hub, root / SHARED), WEIGHTS: _checked(hub, WEIGHTS)}
        checked = {file: digest for file, digest in sums.items() if digest is not None}
        record = Download(model.repo, model.revision, checked)
        (folder / RECORD).write_text(json.dumps(asdict(record), indent=2) + "\n", "utf-8")
    except OSError as error:
        raise _failed(model, error) from error
    return folder


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def compare_sums(folder: Path) -> dict[str, str]:
    """For each weight file of any model folder, how its SHA-256 compares with what is known.

    Only a file whose record of download says otherwise is damaged; that raises ModelFileError.
    """
    download = _record(folder)
    recorded = download.sha256 if download else {}
    return {
        file: _compared(folder / file, file, recorded.get(file))
        for file in (WEIGHTS, CODEC_WEIGHTS)
    }


def _compared(path: Path, file: str, recorded: str | None) -> str:
    try:
        digest = sha256_of(path)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from error
    if recorded is not None and digest != recorded:
        raise ModelFileError(f"{path} has changed: its SHA-256 is {digest}, was {recorded}.")
    if recorded is not None or digest == SUMS.get(file):
        return f"{digest}, as published."
    return f"{digest}; nothing published to compare it with."


class _Hub:
    """The one repository that a model is fetched from; errors of its client become OSError."""

    def __init__(self, model: PublishedModel, folder: Path) -> None:
        try:
            import huggingface_hub
        except ImportError as error:
            raise MissingExtra("Downloading Qwen3-TTS", "qwen3") from error
        self.model = model
        self.folder = folder
        self._client = huggingface_hub

    def fetch(self, file: str) -> None:
        """Download one small file into the folder, or leave it there if it is whole."""
        self._asked(
            self._client.hf_hub_download,
            repo_id=self.model.repo,
            filename=file,
            revision=self.model.revision,
            local_dir=self.folder,
        )

    def fetch_weights(self, file: str) -> str | None:
        """Download one large file; its published SHA-256, known here or told by the repository.

        What has arrived waits in NAME.part and is added to, by a later process too: the client
        itself starts a file that was broken off anew.
        """
        from huggingface_hub.file_download import http_get

        url = self._client.hf_hub_url(self.model.repo, file, revision=self.model.revision)
        facts = self._asked(self._client.get_hf_file_metadata, url=url)
        told = str(facts.etag or "")
        digest = self.model.sha256.get(file) or (told if len(told) == SUM_DIGITS else None)
        target = self.folder / file
        part = target.with_name(f"{target.name}.{told[:16]}.part")
        if not target.exists():
            with part.open("ab") as arriving:
                here = arriving.tell()
                if here != facts.size:
                    self._asked(
                        http_get,
                        url=facts.location,
                        temp_file=arriving,
                        resume_size=here,
                        expected_size=facts.size,
                    )
            part.replace(target)
        return digest

    def _asked(self, function: Callable[..., Any], **arguments: Any) -> Any:
        try:
            return function(**arguments)
        except OSError:
            raise
        except _client_errors() as error:
            raise OSError(str(error)) from error


def _client_errors() -> tuple[type[Exception], ...]:
    """What the client's versions raise: each has its own HTTP library."""
    from huggingface_hub.errors import HfHubHTTPError

    errors: list[type[Exception]] = [HfHubHTTPError, ValueError, RuntimeError]
    for library in ("httpx", "httpx2"):
        with suppress(ImportError):
            errors.append(import_module(library).HTTPError)
    return tuple(errors)


def _codec(hub: _Hub, shared: Path) -> str | None:
    """The codec's weights: linked from another model's, or fetched and kept for the next."""
    known = hub.model.sha256.get(CODEC_WEIGHTS)
    target = hub.folder / CODEC_WEIGHTS
    kept = shared / f"{known}.safetensors"
    if known is not None and not target.exists() and kept.is_file():
        if sha256_of(kept) == known:
            _link(kept, target)
            return known
        kept.unlink()
    checked = _checked(hub, CODEC_WEIGHTS)
    if known is not None and checked == known and not kept.exists():
        shared.mkdir(parents=True, exist_ok=True)
        _link(target, kept)
    return checked


def _checked(hub: _Hub, file: str) -> str | None:
    """Fetch a file; its sum if that is published and right. Raises ModelFileError."""
    expected = hub.fetch_weights(file)
    path = hub.folder / file
    if expected is None:
        log.warning("%s/%s: no SHA-256 is published; it was not checked.", hub.model.repo, file)
        return None
    digest = sha256_of(path)
    if digest != expected:
        path.unlink()
        raise ModelFileError(
            f"{hub.model.repo}/{file} arrived damaged and was removed: its SHA-256 is {digest}, "
            f"expected {expected}."
        )
    return digest


def _link(source: Path, target: Path) -> None:
    """One file under two names, or a copy where the file system has no hard links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:
        shutil.copyfile(source, part)
    part.replace(target)


def _require_space(model: PublishedModel, root: Path) -> None:
    here = sum(file.stat().st_size for file in (root / model.name).rglob("*") if file.is_file())
    codec = (root / SHARED / f"{model.sha256.get(CODEC_WEIGHTS)}.safetensors").is_file()
    needed = model.download_bytes - here - (CODEC_BYTES if codec else 0)
    free = shutil.disk_usage(root).free
    if free < needed:
        raise ModelFileError(
            f"{model.name} needs {_gigabytes(needed)} more in {root}, where {_gigabytes(free)} "
            "are free."
        )


def _announce(model: PublishedModel, folder: Path) -> None:
    """Say what will be fetched before any of it is: a warning, so that it is seen everywhere."""
    size = f"about {_gigabytes(model.download_bytes)}"
    where = "https://huggingface.co"
    log.warning("Downloading %s from %s (%s) into %s", model.repo, where, size, folder)


def _record(folder: Path) -> Download | None:
    """The record of a finished download whose files are all still there."""
    if not all((folder / file).is_file() for file in (RECORD, *FILES)):
        return None
    return JsonObject.read(folder / RECORD).into(Download)


def _failed(model: PublishedModel, error: OSError) -> ModelFileError:
    if error.errno in FULL_DISK:
        what = f"the disk is full. It needs {_gigabytes(model.download_bytes)} in all."
    else:
        what = f"{' '.join(str(error).split()) or repr(error)}"
    again = "What has arrived is kept; the same command goes on from there."
    return ModelFileError(f"{model.repo} cannot be downloaded: {what} {again}")


def _gigabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB"
