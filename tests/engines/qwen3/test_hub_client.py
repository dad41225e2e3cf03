"""The real client of the hub against a server on this machine that breaks off once."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from vivavoce.engines.qwen3.catalogue import CODEC_WEIGHTS, published
from vivavoce.engines.qwen3.checkpoint import WEIGHTS, open_checkpoint
from vivavoce.engines.qwen3.hub import sha256_of

Make = Callable[[str], Path]
NAME = "Qwen3-TTS-12Hz-0.6B-CustomVoice"
PATIENT = {"HF_HUB_ETAG_TIMEOUT": "60", "HF_HUB_DOWNLOAD_TIMEOUT": "60"}
"""Seconds; a busy machine may leave the client waiting for its neighbour in the same machine."""

DOWNLOAD = """
import sys
from dataclasses import replace
from pathlib import Path
import huggingface_hub.constants
from vivavoce.engines.qwen3 import hub
from vivavoce.errors import ModelFileError
huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = 1 << 20
known = hub.published
hub.published = lambda name: replace(known(name), sha256={sys.argv[3]: sys.argv[4]})
try:
    print("done", hub.download_model(sys.argv[1], Path(sys.argv[2])))
except ModelFileError as error:
    print("failed", error.message)
"""


class _Handler(BaseHTTPRequestHandler):
    """Serves one folder as a model repository does; the first answer of the weights is cut,
    the second is a refusal."""

    folder: Path
    ranges: list[str | None]
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._headers(200, len(self._data()))

    def do_GET(self) -> None:
        data, wanted = self._data(), self.headers.get("Range")
        first = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        if self.path.endswith(f"{published(NAME).revision}/{WEIGHTS}") and len(self.ranges) == 1:
            self.ranges.append(wanted)
            self.send_error(503)
            return
        self._headers(206 if wanted else 200, len(data) - first, first, len(data))
        if self.path.endswith(f"{published(NAME).revision}/{WEIGHTS}"):
            self.ranges.append(wanted)
            if len(self.ranges) == 1:
                self.wfile.write(data[: len(data) // 2])
                self.close_connection = True
                return
        self.wfile.write(data[first:])

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _data(self) -> bytes:
        _, file = self.path.split(f"/resolve/{published(NAME).revision}/")
        return (self.folder / file).read_bytes()

    def _headers(self, status: int, size: int, first: int = 0, total: int = 0) -> None:
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{total - 1}/{total}")
        self.send_header("Content-Length", str(size))
        self.send_header("ETag", f'"{hashlib.sha256(self._data()).hexdigest()}"')
        self.send_header("X-Repo-Commit", published(NAME).revision)
        self.end_headers()


@contextmanager
def _serving(folder: Path) -> Iterator[tuple[str, list[str | None]]]:
    ranges: list[str | None] = []
    handler = type("Handler", (_Handler,), {"folder": folder, "ranges": ranges})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", ranges
        server.shutdown()


def _download(endpoint: str, root: Path, codec_sum: str) -> str:
    """In a process of its own: the client reads its endpoint when it is imported."""
    ran = subprocess.run(
        [sys.executable, "-c", DOWNLOAD, NAME, str(root), CODEC_WEIGHTS, codec_sum],
        env=os.environ | PATIENT | {"HF_ENDPOINT": endpoint, "HF_HOME": str(root / "home")},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return ran.stdout.strip()


@pytest.mark.slow
def test_download_resume_and_no_network(tiny_checkpoint: Make, tmp_path: Path) -> None:
    source = tiny_checkpoint("0.6B-CustomVoice")
    codec_sum = sha256_of(source / CODEC_WEIGHTS)
    with _serving(source) as (endpoint, ranges):
        assert "503" in _download(endpoint, tmp_path, codec_sum)
        assert _download(endpoint, tmp_path, codec_sum).startswith("done")
    half = (source / WEIGHTS).stat().st_size // 2
    assert len(ranges) == 3
    assert ranges[0] is None
    assert ranges[-1] is not None
    assert 0 < int(ranges[-1].removeprefix("bytes=").rstrip("-")) <= half
    folder = tmp_path / NAME
    open_checkpoint(folder)
    assert sha256_of(folder / WEIGHTS) == sha256_of(source / WEIGHTS)
    assert _download(endpoint, tmp_path, codec_sum).startswith("done")
    assert _download(endpoint, tmp_path / "elsewhere", codec_sum).startswith("failed Qwen/")
