"""Forms are UTF-8: bytes that are no text become nobody's name."""

from __future__ import annotations

import pytest
from tests.serving.conftest import LiveServer

BOUNDARY = "a-boundary"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def part(name: bytes, content: bytes, *, file: bool = False) -> bytes:
    head = b'Content-Disposition: form-data; name="' + name + b'"'
    head += b'; filename="\xff.wav"' if file else b""
    return b"--" + BOUNDARY.encode() + b"\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join([*parts, b"--" + BOUNDARY.encode() + b"--\r\n"])


@pytest.mark.parametrize("path", ["/v1/audio/voices", "/v1/audio/speech/clone"])
@pytest.mark.parametrize(
    "wrong",
    [(b"name", b"\xff\xfe"), (b"input", b"caf\xe9"), (b"x", b"\xed\xa0\x80"), (b"\xff", b"")],
)
def test_a_field_that_is_not_utf8_is_refused(
    server: LiveServer, wav_recording: bytes, path: str, wrong: tuple[bytes, bytes]
) -> None:
    right = (
        part(b"name", b"anna"),
        part(b"input", b"Hi."),
        part(b"file", wav_recording, file=True),
    )
    answer = server.client.post(
        path, content=form(*right, part(*wrong)), headers={"Content-Type": TYPE}
    )
    assert answer.status_code == 400
    assert "UTF-8" in answer.json()["error"]["message"]
    assert server.service.voices.saved() == ()


def test_a_form_in_another_charset_is_refused(server: LiveServer, wav_recording: bytes) -> None:
    body = form(part(b"name", b"anna"), part(b"file", wav_recording, file=True))
    for charset, status in (("latin-1", 400), ("utf-16", 400), ("us-ascii", 400), ("UTF-8", 200)):
        headers = {"Content-Type": f"{TYPE}; charset={charset}"}
        answer = server.client.post("/v1/audio/voices", content=body, headers=headers)
        assert answer.status_code == status, charset
    server.service.voices.delete("anna")


def test_a_name_in_utf8_is_kept_as_it_is(server: LiveServer, wav_recording: bytes) -> None:
    body = form(part(b"name", "Zoë".encode()), part(b"file", wav_recording, file=True))
    answer = server.client.post("/v1/audio/voices", content=body, headers={"Content-Type": TYPE})
    assert answer.json()["id"] == "Zoë"
    server.service.voices.delete("Zoë")


def test_a_broken_form_is_a_400(server: LiveServer) -> None:
    for body, kind in ((b"no form", TYPE), (form(), "multipart/form-data")):
        answer = server.client.post(
            "/v1/audio/voices", content=body, headers={"Content-Type": kind}
        )
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "invalid_request"
