"""Uploads as callers send them: recordings in forms, over httpx or over bare sockets."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

CLONE = "/v1/audio/speech/clone"
VOICES = "/v1/audio/voices"
FILE_FIELD = {CLONE: "file", VOICES: "audio_sample"}


def fields_for(path: str, name: str) -> dict[str, str]:
    """The least that a form for this path needs; saved voices get ``name``."""
    return {"input": "Hello there."} if path == CLONE else {"name": name}


def upload(
    client: httpx.Client, path: str, recording: bytes, name: str = "anna", **more: str
) -> httpx.Response:
    """Send a recording to be cloned, once or to be kept."""
    form = fields_for(path, name) | more
    return client.post(path, data=form, files={FILE_FIELD[path]: recording})


def upload_request(
    path: str, recording: bytes, name: str = "anna", headers: Mapping[str, str] | None = None
) -> bytes:
    """The same as the bytes of an HTTP request."""
    made = httpx.Request(
        "POST",
        f"http://localhost{path}",
        data=fields_for(path, name),
        files={FILE_FIELD[path]: recording},
        headers=dict(headers or {}),
    )
    body = made.read()
    lines = [f"POST {path} HTTP/1.1"]
    lines += [f"{key}: {value}" for key, value in made.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
