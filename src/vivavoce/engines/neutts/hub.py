"""Repositories of the Hugging Face Hub and local paths: where a model's files are on this machine.

A repository is downloaded once into ``ROOT/OWNER--NAME``; what has arrived is kept, and found
again without a network. Needs no package of the hub's own, as the extra ``neutts`` has none.
Protocol: the hub's HTTP interface (``/api/models/REPO``, ``/REPO/resolve/main/FILE``).
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import httpx

from vivavoce.engines.neutts.options import NeuTTSOptions, models_root
from vivavoce.errors import ModelFileError, SettingsError

log = logging.getLogger(__name__)

HUB = "https://huggingface.co"
RECORD = "vivavoce.json"
TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
TIMEOUT_S = 60.0
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)

GGUF_FILES = ("*.gguf",)
TORCH_FILES = ("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json",
               "tokenizer*", "vocab.json", "merges.txt", "special_tokens_map.json",
               "added_tokens.json")  # fmt: skip
CODEC_FILES = ("*.onnx", "*.onnx.data", "*.onnx_data", "pytorch_model.bin", "model.safetensors")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which of a repository's files are needed: any of ``patterns``; ``what`` is for messages."""

    what: str
    patterns: Sequence[str]

    def of(self, names: Sequence[str]) -> list[str]:
        """The files to fetch, by name."""
        return [name for name in names if any(fnmatch(name, each) for each in self.patterns)]


BACKBONE = Wanted("backbone", (*GGUF_FILES, *TORCH_FILES))
CODEC = Wanted("codec", CODEC_FILES)
ENCODER = Wanted("encoder", ("pytorch_model.bin", "model.safetensors"))


def locate(name: str, root: Path, wanted: Wanted, base_url: str = HUB) -> Path:
    """The file or folder that ``name`` is: a path that exists, or a repository, downloaded.

    Raises SettingsError for what is neither, ModelFileError where it cannot be downloaded.
    """
    return _local(name, wanted) or download(name, root, wanted, base_url)


def find(name: str, root: Path, wanted: Wanted) -> Path:
    """What ``locate`` gives, where it is on this machine already.

    Raises SettingsError as ``locate`` does, ModelFileError for what would have to be downloaded.
    """
    if (path := _local(name, wanted)) is not None:
        return path
    folder = root / name.replace("/", "--")
    if _whole(folder):
        return folder
    raise ModelFileError(
        f"The {wanted.what} {name} is not on this machine; it is downloaded by a start with "
        "preload_model=true."
    )


def _local(name: str, wanted: Wanted) -> Path | None:
    """The path that ``name`` is; None for a repository. Raises SettingsError for neither."""
    path = Path(name).expanduser()
    if path.exists():
        return path
    if path.suffix in (".gguf", ".onnx", ".bin", ".safetensors") or not REPO.fullmatch(name):
        raise SettingsError(
            f"{name!r} is neither a file or folder here nor a repository like "
            f"'neuphonic/neutts-nano-q4-gguf'.",
            param=f"{wanted.what}_repo",
        )
    return None


def find_files(options: NeuTTSOptions) -> None:
    """Find backbone and codec on this machine. Raises SetupError."""
    root = models_root(options)
    find_gguf(find(options.backbone, root, BACKBONE))
    find(options.codec_repo, root, CODEC)


def find_gguf(path: Path) -> Path | None:
    """The GGUF at a path: itself, or the one in a folder; None where there is none.

    Raises ModelFileError where a folder has several.
    """
    if path.is_file():
        return path if path.suffix.lower() == ".gguf" else None
    found = [each for each in sorted(path.glob("*.gguf")) if not each.name.endswith(".pruned.gguf")]
    if len(found) > 1:
        names = ", ".join(each.name for each in found)
        raise ModelFileError(f"{path} has several GGUF files; name one of them: {names}.")
    return found[0] if found else None


def download(repo: str, root: Path, wanted: Wanted, base_url: str = HUB) -> Path:
    """The folder with a repository's files. A download that broke off is gone on with.

    Raises ModelFileError, which for a gated repository says what to do.
    """
    folder = root / repo.replace("/", "--")
    if _whole(folder):
        return folder
    token = _token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with httpx.Client(
            base_url=base_url, headers=headers, timeout=TIMEOUT_S, follow_redirects=True
        ) as client:
            told = _listing(client, repo, has_token=bool(token))
            names = wanted.of([str(each["rfilename"]) for each in told["siblings"]])
            if not names:
                raise ModelFileError(f"{repo} holds no {wanted.what}.")
            _announce(repo, told["siblings"], names, folder)
            for name in names:
                _fetch(client, repo, name, folder)
        record = {"repo": repo, "revision": told.get("sha", ""), "files": names}
        (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", "utf-8")
    except httpx.HTTPError as error:
        raise _failed(repo, str(error) or repr(error)) from error
    except OSError as error:
        what = "the disk is full" if error.errno in FULL_DISK else error.strerror or str(error)
        raise _failed(repo, what) from error
    return folder


def _announce(
    repo: str, siblings: Sequence[Mapping[str, Any]], names: Sequence[str], folder: Path
) -> None:
    """Say what will be fetched before any of it is: a warning, so that it is seen everywhere."""
    missing = [name for name in names if not (folder / name).is_file()]
    sizes = [each.get("size") for each in siblings if each["rfilename"] in missing]
    known = [size for size in sizes if isinstance(size, int)]
    whole = len(known) == len(missing)
    size = f"{sum(known):,} bytes" if whole else "of a size that the hub does not tell"
    told = (repo, HUB, len(missing), size, folder)
    log.warning("Downloading %s from %s (%d files, %s) into %s", *told)


def _whole(folder: Path) -> bool:
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
        return all((folder / name).is_file() for name in record["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _token() -> str:
    """The user's token: from the environment, or where the hub's own tool keeps it."""
    for name in TOKEN_VARIABLES:
        if os.environ.get(name, "").strip():
            return os.environ[name].strip()
    home = os.environ.get("HF_HOME")
    kept = (Path(home) if home else Path.home() / ".cache" / "huggingface") / "token"
    try:
        return kept.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _listing(client: httpx.Client, repo: str, *, has_token: bool) -> dict[str, Any]:
    answer = client.get(f"/api/models/{repo}", params={"blobs": "true"})  # with sizes
    _permitted(answer, repo, has_token=has_token)
    try:
        told = answer.json()
        if not isinstance(told["siblings"], list):
            raise TypeError
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{repo}: the hub's answer is not understood.") from error
    return dict(told)


def _permitted(answer: httpx.Response, repo: str, *, has_token: bool) -> None:
    """Raises ModelFileError that says how to get at a gated repository."""
    if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        if has_token:
            raise ModelFileError(
                f"{repo} is gated and your token does not open it: accept its licence at "
                f"{HUB}/{repo} with the account the token belongs to."
            )
        raise ModelFileError(
            f"{repo} is gated: accept its licence at {HUB}/{repo}, then set HF_TOKEN to a token "
            f"of that account ({HUB}/settings/tokens), or give a local path."
        )
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise ModelFileError(f"There is no repository {repo} on {HUB}.")
    answer.raise_for_status()


def _fetch(client: httpx.Client, repo: str, name: str, folder: Path) -> None:
    """One file through NAME.part, which a later attempt adds to. Raises OSError, HTTPError."""
    target = folder / name
    if target.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    here = part.stat().st_size if part.exists() else 0
    log.info("Downloading %s/%s", repo, name)
    asked = {"Range": f"bytes={here}-"} if here else {}
    with client.stream("GET", f"/{repo}/resolve/main/{name}", headers=asked) as answer:
        if answer.status_code != httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            _permitted(answer, repo, has_token="authorization" in client.headers)
            resumed = answer.status_code == httpx.codes.PARTIAL_CONTENT
            with part.open("ab" if resumed else "wb") as file:
                for block in answer.iter_bytes():
                    file.write(block)
    part.replace(target)


def _failed(repo: str, what: str) -> ModelFileError:
    again = "What has arrived is kept; the next attempt goes on from there."
    return ModelFileError(f"{repo} cannot be downloaded: {what}. {again}")
