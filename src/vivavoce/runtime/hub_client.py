"""The client of the Hugging Face Hub as one repository needs it; its errors in words.

``HF_TOKEN`` (or where the hub's own tool keeps it), ``HF_ENDPOINT`` and ``HF_HUB_OFFLINE`` are the
client's and count here as they do there.
"""

from __future__ import annotations

import errno
import glob
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from vivavoce.errors import MissingExtra, ModelFileError

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
SUM_DIGITS = 64
NOT_OPEN = (401, 403)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository: ``sha256`` of a large one, git's ``blob_id`` of a small one, where
    the hub tells them; ``size_bytes`` is -1 where it does not."""

    name: str
    size_bytes: int = -1
    sha256: str = ""
    blob_id: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """A repository at one ``commit``."""

    commit: str
    files: tuple[RemoteFile, ...]


class HubClient:
    """Asks for one repository. Every method raises ModelFileError that says what to do."""

    def __init__(self, repo: str) -> None:
        try:
            import huggingface_hub
            from huggingface_hub import constants
        except ImportError as error:
            raise MissingExtra(f"Downloading {repo}", "hub") from error
        self.repo = repo
        self.endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or constants.ENDPOINT
        self._client = huggingface_hub
        self._constants = constants

    @property
    def offline(self) -> bool:
        """Whether ``HF_HUB_OFFLINE`` forbids to ask anybody."""
        return bool(self._constants.HF_HUB_OFFLINE)

    def cached(self, revision: str) -> Path | None:
        """The folder of a revision (empty: the newest known) in Hugging Face's own cache."""
        # Without patterns the client would refuse a snapshot that lacks files nobody needs.
        with suppress(OSError, ValueError):
            found = self._client.snapshot_download(
                self.repo, revision=revision or None, local_files_only=True, allow_patterns=[]
            )
            return Path(found)
        return None

    def listing(self, revision: str) -> Listing:
        """The files of a revision; empty: of the newest one."""
        with self._in_words():
            told = self._client.HfApi(endpoint=self.endpoint).model_info(
                self.repo, revision=revision or None, files_metadata=True
            )
            if not told.sha:
                raise ModelFileError(f"{self.repo}: the hub does not tell its revision.")
            return Listing(told.sha, tuple(map(_remote, told.siblings or ())))

    def fetch_small(self, names: Sequence[str], commit: str, folder: Path) -> None:
        """Bring files of one commit into a folder."""
        with self._in_words(), _bars_on_terminals():
            self._client.snapshot_download(
                self.repo,
                revision=commit,
                local_dir=folder,
                allow_patterns=[glob.escape(name) for name in names],
                endpoint=self.endpoint,
            )

    def fetch_rest(self, file: RemoteFile, commit: str, arriving: BinaryIO) -> None:
        """Add what is missing of a large file. A client that starts anew is no good at 4 GB."""
        from huggingface_hub.file_download import http_get

        with self._in_words(), _bars_on_terminals():
            http_get(
                f"{self.endpoint}/{self.repo}/resolve/{commit}/{quote(file.name)}",
                arriving,
                resume_size=arriving.seek(0, os.SEEK_END),
                expected_size=file.size_bytes if file.size_bytes >= 0 else None,
                headers=_utils().build_hf_headers(),
            )

    @contextmanager
    def lock(self, path: Path) -> Iterator[None]:
        """Wait for other processes that fetch the same."""
        with self._in_words():
            path.parent.mkdir(parents=True, exist_ok=True)
        with _utils().WeakFileLock(path):
            yield

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._worded(error) from error
        except _client_errors() as error:
            raise self._worded(error) from error

    def _worded(self, error: Exception) -> ModelFileError:
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, RevisionNotFoundError):
            return ModelFileError(f"{self.repo} has no such revision on {self.endpoint}.")
        if _is_gated(error) or (status in NOT_OPEN and not _is_unknown(error)):
            return self._gated()
        if isinstance(error, RepositoryNotFoundError):
            return ModelFileError(
                f"There is no repository {self.repo} on {self.endpoint}; a private one is shown "
                "to whom HF_TOKEN is a token of."
            )
        if isinstance(error, OSError) and error.errno in FULL_DISK:
            return failed(self.repo, "the disk is full")
        plain = isinstance(error, OSError) and error.strerror
        return failed(self.repo, str(plain or " ".join(str(error).split()) or repr(error)))

    def _gated(self) -> ModelFileError:
        page = f"{self.endpoint}/{self.repo}"
        if self._client.get_token():
            return ModelFileError(
                f"{self.repo} is gated and your token does not open it: accept its licence at "
                f"{page} with the account the token belongs to."
            )
        return ModelFileError(
            f"{self.repo} is gated: accept its licence at {page}, then set HF_TOKEN to a token "
            f"of that account ({self.endpoint}/settings/tokens), or give a local path."
        )


@contextmanager
def _bars_on_terminals() -> Iterator[None]:
    """Progress bars are no lines of a log."""
    utils = _utils()
    if sys.stderr.isatty() or utils.are_progress_bars_disabled():
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()


def _utils() -> Any:
    return import_module("huggingface_hub.utils")


def failed(repo: str, what: str) -> ModelFileError:
    """A download that can be tried again."""
    again = "What has arrived is kept; the next attempt goes on from there."
    return ModelFileError(f"{repo} cannot be downloaded: {what}. {again}")


def _remote(sibling: Any) -> RemoteFile:
    # The client's versions tell them as objects or as dictionaries.
    large = sibling.lfs or {}
    digest = large.get("sha256") if isinstance(large, dict) else large.sha256
    return RemoteFile(
        sibling.rfilename,
        -1 if sibling.size is None else int(sibling.size),
        digest if digest and len(digest) == SUM_DIGITS else "",
        "" if large else sibling.blob_id or "",
    )


def _is_gated(error: Exception) -> bool:
    from huggingface_hub.errors import GatedRepoError

    return isinstance(error, GatedRepoError)


def _is_unknown(error: Exception) -> bool:
    """Strangers are told 401 of what does not exist, too; then the answer says so."""
    response = getattr(error, "response", None)
    return getattr(response, "headers", {}).get("X-Error-Code") == "RepoNotFound"


def _client_errors() -> tuple[type[Exception], ...]:
    """What the client's versions raise: each has its own HTTP library."""
    from huggingface_hub.errors import HfHubHTTPError

    errors: list[type[Exception]] = [HfHubHTTPError, ValueError, RuntimeError]
    for library in ("httpx", "httpx2"):
        with suppress(ImportError):
            errors.append(import_module(library).HTTPError)
    return tuple(errors)
