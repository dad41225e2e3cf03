"""The one way by which models come to this machine: repositories of the Hugging Face Hub.

What is in the models folder is used; else a snapshot in Hugging Face's own cache; else it is
fetched into the models folder. All files of a download are of one commit, and each is compared
with the sum that the hub (or we) know of it before anything uses it: a large one is written to
``NAME.SUM.part``, which a later attempt adds to, so that no part of another version is taken for
its own.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TypeAlias

from vivavoce.errors import ModelFileError
from vivavoce.runtime.hub_client import HubClient, Listing, RemoteFile, failed
from vivavoce.runtime.hub_record import RECORD, Record, last_record, read_record, write_record

log = logging.getLogger(__name__)

Choose: TypeAlias = Callable[[Sequence[str]], Sequence[str]]
"""Of all names of files those that are needed; none where something essential is not there."""

_NOTHING: Mapping[str, str] = MappingProxyType({})
_UNSHARED: Mapping[str, Path] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Repository:
    """What is wanted of a repository, and the ``folder`` that downloads of it are kept in.

    ``what`` is it, in a word, for messages. ``revision`` is a commit; empty: the newest one when
    it is first fetched, and that one from then on. ``sha256`` are sums that are known here.
    ``shared`` names files that are the same in several repositories, and the path at which one
    copy is kept for all of them.
    """

    repo: str
    folder: Path
    what: str
    choose: Choose
    revision: str = ""
    sha256: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    shared: Mapping[str, Path] = field(default_factory=lambda: _UNSHARED)


def find(wanted: Repository) -> Path | None:
    """The folder with the files, where they are on this machine; asks nobody."""
    record = read_record(wanted.folder)
    if record is not None and wanted.revision in ("", record.revision) and _whole(wanted):
        return wanted.folder
    if find_spec("huggingface_hub") is None:
        return None
    cached = HubClient(wanted.repo).cached(wanted.revision)
    return cached if cached is not None and wanted.choose(names_in(cached)) else None


def fetch(wanted: Repository) -> Path:
    """The folder with the files, fetched where they are not here. Blocks.

    What is fetched, and how many bytes it has, is in the log before it begins; bars on a terminal
    are the client's. Raises MissingExtra, and ModelFileError where a repository is gated, unknown
    or lacks what is wanted, the network or the disk fails, or a file arrives damaged.
    """
    if (found := find(wanted)) is not None:
        return found
    client = HubClient(wanted.repo)
    if client.offline:
        raise ModelFileError(
            f"{wanted.repo} is not on this machine, and HF_HUB_OFFLINE forbids to fetch it."
        )
    with client.lock(wanted.folder.parent / f".{wanted.folder.name}.lock"):
        if (found := find(wanted)) is not None:  # another process has fetched it
            return found
        try:
            _fetch(client, wanted)
        except OSError as error:
            raise failed(wanted.repo, error.strerror or str(error)) from error
    return wanted.folder


def names_in(folder: Path) -> list[str]:
    """The files below a folder, by their names in a repository."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in found if path.parts[0] != ".cache")


def place(source: Path, target: Path) -> None:
    """One file under two names, or a copy where the file system has no hard links. Raises OSError.

    Whoever looks sees a whole file or none.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".placing")
    part.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), part)
    except OSError:
        shutil.copyfile(source, part)
    part.replace(target)


def is_in_client_cache(path: Path) -> bool:
    """Whether a file or folder belongs to Hugging Face's cache, where only its client writes."""
    folders = (*path.absolute().parents, *path.resolve().parents)
    return any(folder.name.startswith("models--") for folder in folders)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _whole(wanted: Repository) -> bool:
    return bool(wanted.choose(names_in(wanted.folder)))


def _fetch(client: HubClient, wanted: Repository) -> None:
    """Fetch what is missing. Raises OSError, ModelFileError."""
    folder, before = wanted.folder, last_record(wanted.folder)
    known = wanted.revision or (before.revision if before is not None else "")
    listing = client.listing(known)
    files = _chosen(wanted, listing)
    folder.mkdir(parents=True, exist_ok=True)
    same = before is not None and before.revision == listing.commit
    if before is not None and not same:
        (folder / RECORD).unlink()  # from here on the folder is not whole
        for name in set(before.files) - {file.name for file in files}:
            (folder / name).unlink(missing_ok=True)
    missing = [file for file in files if not _is_here(file, folder)]
    _announce(client, missing, folder)
    _require_space(wanted, missing)
    for file in missing:
        if file.sha256:
            _fetch_large(client, listing.commit, file, wanted)
    _fetch_small(client, listing.commit, [file for file in missing if not file.sha256], folder)
    sums = {file.name: file.sha256 for file in files if file.sha256}
    kept = before if before is not None and same else Record(wanted.repo, listing.commit, (), {})
    names = tuple(sorted({*kept.files, *(file.name for file in files)}))
    write_record(folder, Record(wanted.repo, listing.commit, names, {**kept.sha256, **sums}))


def _chosen(wanted: Repository, listing: Listing) -> list[RemoteFile]:
    """The files to have, with the sums that are known here. Raises ModelFileError."""
    names = set(wanted.choose([file.name for file in listing.files]))
    if not names:
        raise ModelFileError(f"{wanted.repo} holds no {wanted.what}.")
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name:
            raise ModelFileError(f"{wanted.repo} names the file {name!r}; it is not fetched.")
    files = [file for file in listing.files if file.name in names]
    return [replace(file, sha256=wanted.sha256.get(file.name, file.sha256)) for file in files]


def _is_here(file: RemoteFile, folder: Path) -> bool:
    """Whether a file is there and the one that the hub tells of."""
    path = folder / file.name
    if not path.is_file() or file.size_bytes not in (-1, path.stat().st_size):
        return False
    if file.sha256:
        return sha256_of(path) == file.sha256
    return bool(file.blob_id) and _blob_id(path) == file.blob_id


def _announce(client: HubClient, missing: Sequence[RemoteFile], folder: Path) -> None:
    """Say what will be fetched before any of it is: a warning, so that it is seen everywhere."""
    known = all(file.size_bytes >= 0 for file in missing)
    size = f"{_bytes(missing):,} bytes" if known else "of a size that the hub does not tell"
    told = (client.repo, client.endpoint, len(missing), size, folder)
    log.warning("Downloading %s from %s (%d files, %s) into %s", *told)


def _require_space(wanted: Repository, missing: Sequence[RemoteFile]) -> None:
    """Raise ModelFileError where the disk cannot take what is missing."""
    kept = [file for file in missing if not _shared_copy(file, wanted)]
    arrived = sum(_part(file, wanted.folder).stat().st_size for file in kept
                  if _part(file, wanted.folder).is_file())  # fmt: skip
    needed = _bytes(kept) - arrived
    free = shutil.disk_usage(wanted.folder).free
    if free < needed:
        raise ModelFileError(
            f"{wanted.repo} needs {needed / 1e9:.1f} GB more in {wanted.folder.parent}, where "
            f"{free / 1e9:.1f} GB are free."
        )


def _fetch_large(client: HubClient, commit: str, file: RemoteFile, wanted: Repository) -> None:
    """One file through its part. Raises OSError, ModelFileError where it arrives damaged."""
    target, part = wanted.folder / file.name, _part(file, wanted.folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    for stale in _stale_parts(target, part):
        stale.unlink()
    if (shared := _shared_copy(file, wanted)) is not None:
        if sha256_of(shared) == file.sha256:
            place(shared, target)
            return
        shared.unlink()
    part.touch()
    if part.stat().st_size != file.size_bytes:
        with part.open("r+b") as arriving:
            client.fetch_rest(file, commit, arriving)
    digest = sha256_of(part)
    if digest != file.sha256:
        part.unlink()
        raise ModelFileError(
            f"{client.repo}/{file.name} arrived damaged and was removed: its SHA-256 is {digest}, "
            f"expected {file.sha256}."
        )
    part.replace(target)
    if file.name in wanted.shared:
        place(target, wanted.shared[file.name])


def _fetch_small(client: HubClient, commit: str, files: Sequence[RemoteFile], folder: Path) -> None:
    """Files of which the hub tells no SHA-256: with git's sum, or unchecked, which is said."""
    if not files:
        return
    client.fetch_small([file.name for file in files], commit, folder)
    for file in files:
        path = folder / file.name
        if not path.is_file():
            raise failed(client.repo, f"{file.name} did not arrive")
        if not file.blob_id:
            log.warning("%s/%s: no sum is published; it was not checked.", client.repo, file.name)
        elif _blob_id(path) != file.blob_id:
            path.unlink()
            raise ModelFileError(f"{client.repo}/{file.name} arrived damaged and was removed.")


def _shared_copy(file: RemoteFile, wanted: Repository) -> Path | None:
    path = wanted.shared.get(file.name)
    return path if path is not None and path.is_file() else None


def _part(file: RemoteFile, folder: Path) -> Path:
    target = folder / file.name
    return target.with_name(f"{target.name}.{file.sha256[:16]}.part")


def _stale_parts(target: Path, part: Path) -> list[Path]:
    """What earlier downloads left of other versions of a file."""
    own = [path for path in target.parent.glob("*.part") if path.name.startswith(target.name + ".")]
    return [path for path in own if path != part]


def _bytes(files: Iterable[RemoteFile]) -> int:
    return sum(max(file.size_bytes, 0) for file in files)


def _blob_id(path: Path) -> str:
    """The name by which git knows a file's content; its format: git-hash-object(1)."""
    data = path.read_bytes()
    head = f"blob {len(data)}\0".encode()
    return hashlib.sha1(head + data, usedforsecurity=False).hexdigest()
