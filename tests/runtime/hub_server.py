"""A Hugging Face Hub on this machine: repositories with commits, gates, and lines that break."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".gguf", ".bin", ".onnx")
"""Endings of files whose SHA-256 the hub tells, as it keeps them apart."""

Files = Mapping[str, bytes]


def commit_of(files: Files) -> str:
    """A commit's name: it follows from what is in it."""
    told = json.dumps({name: hashlib.sha256(data).hexdigest() for name, data in files.items()})
    return hashlib.sha1(told.encode()).hexdigest()


@dataclass
class HubServer:
    """What it holds, and what it was asked. ``cuts``: how much of a file is sent before the line
    breaks, once; then ``refusals`` answers of 503. ``gated`` repositories need ``token``.
    ``elsewhere`` is a host from which large files come, and which wants no token."""

    endpoint: str = ""
    commits: dict[str, dict[str, Files]] = field(default_factory=dict)
    head: dict[str, str] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    token: str = "mine"
    cuts: dict[str, int] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)
    elsewhere: str = ""
    damaged: set[str] = field(default_factory=set)
    tells_sums: bool = True
    asked: list[tuple[str, str]] = field(default_factory=list)
    ranges: list[tuple[str, str]] = field(default_factory=list)

    def publish(self, repo: str, files: Files) -> str:
        """A new commit, the newest one. Returns its name."""
        commit = commit_of(files)
        self.commits.setdefault(repo, {})[commit] = dict(files)
        self.head[repo] = commit
        return commit

    @property
    def fetched(self) -> list[str]:
        """The files that were sent, or begun, in order."""
        return [path.split("/resolve/")[1].partition("/")[2] for method, path in self.asked
                if method == "GET" and "/resolve/" in path]  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path).lstrip("/")
        self.hub.asked.append((self.command, path))
        api = path.startswith("api/models/")
        parts = path.removeprefix("api/models/").split("/")
        repo, rest = "/".join(parts[:2]), parts[2:]
        if repo not in self.hub.commits:
            return self._refuse(404, "RepoNotFound")
        given = self.headers.get("Authorization")
        if self.hub.elsewhere and self.headers["Host"].startswith(self.hub.elsewhere):
            name, files = "/".join(rest[2:]), self.hub.commits[repo][rest[1]]
            return self._refuse(400, "") if given else self._file(name, files[name], rest[1])
        if (
            repo in self.hub.gated
            and not (api and not rest)
            and given != f"Bearer {self.hub.token}"
        ):
            return self._refuse(403 if given else 401, "GatedRepo")
        revision = rest[1] if len(rest) > 1 else "main"
        commit = self.hub.head[repo] if revision == "main" else revision
        if commit not in self.hub.commits[repo]:
            return self._refuse(404, "RevisionNotFound")
        files = self.hub.commits[repo][commit]
        if api:
            return self._told(repo, commit, files, tree=bool(rest) and rest[0] == "tree")
        name = "/".join(rest[2:])
        if self.hub.elsewhere and self._is_large(name):
            port = self.hub.endpoint.rpartition(":")[2]
            return self._send_on(f"http://{self.hub.elsewhere}:{port}/{path}")
        if name not in files:
            return self._refuse(404, "EntryNotFound")
        return self._file(name, files[name], commit)

    def _told(self, repo: str, commit: str, files: Files, *, tree: bool) -> None:
        entries = [self._entry(name, data, tree=tree) for name, data in files.items()]
        told = entries if tree else {"id": repo, "sha": commit, "siblings": entries}
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _entry(self, name: str, data: bytes, *, tree: bool) -> dict[str, Any]:
        blob = _blob_id(data)
        lfs: dict[str, Any] = {}
        if self._is_large(name):
            key = "oid" if tree else "sha256"
            lfs = {"lfs": {key: _sum(data), "size": len(data), "pointerSize": 134}}
        if tree:
            return {"type": "file", "path": name, "size": len(data), "oid": blob} | lfs
        return {"rfilename": name, "size": len(data), "blobId": blob} | lfs

    def _is_large(self, name: str) -> bool:
        return self.hub.tells_sums and name.endswith(LARGE)

    def _file(self, name: str, data: bytes, commit: str) -> None:
        etag = _sum(data) if self._is_large(name) else _blob_id(data)
        wanted = self.headers.get("Range", "")
        if self.command == "GET":
            self.hub.ranges.append((name, wanted))
            if name not in self.hub.cuts and self.hub.refusals.get(name, 0):
                self.hub.refusals[name] -= 1
                self._refuse(503, "")
                return
            if name in self.hub.damaged:
                data = data[:-1] + bytes([data[-1] ^ 1])
        first = int(wanted.removeprefix("bytes=").partition("-")[0] or 0)
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - first))
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", commit)
        self.end_headers()
        if self.command != "GET":
            return
        cut = self.hub.cuts.pop(name, None)
        self.wfile.write(data[first:cut])
        if cut is not None:
            self.close_connection = True

    def _send_on(self, address: str) -> None:
        self.send_response(302)
        self.send_header("Location", address)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _blob_id(data: bytes) -> str:
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


@contextmanager
def serving_hub() -> Iterator[HubServer]:
    """A hub that answers until the end of the block."""
    hub = HubServer()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
