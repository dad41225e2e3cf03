"""Clients of the two old servers, as they were written for those: they know nothing of vivavoce.

Standard library and ``websockets`` only. They send no key, look at the status and the fields that
the old servers had, and take everything else as an error.
"""

from __future__ import annotations

import base64
import io
import json
import urllib.error
import urllib.request
import uuid
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from websockets.sync.client import connect

PATIENCE_S = 20


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Any
    body: bytes

    @property
    def told(self) -> Any:
        return json.loads(self.body)


class CallClient:
    """What a phone system's bridge does with the Qwen3-TTS server."""

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}"
        self._socket = f"ws://127.0.0.1:{port}/v1/audio/speech/ws"

    def post(self, path: str, fields: dict[str, Any]) -> Answer:
        body = json.dumps(fields).encode()
        return self._send(path, body, {"Content-Type": "application/json"})

    def get(self, path: str) -> Answer:
        return self._send(path, None, {})

    def speech(self, text: str, **fields: Any) -> tuple[int, bytes]:
        """Rate and samples of the WAV that came; its name must end like one."""
        answer = self.post("/v1/audio/speech", {"input": text} | fields)
        assert answer.status == 200, answer.body
        assert answer.headers["Content-Disposition"] == 'attachment; filename="speech.wav"'
        assert int(answer.headers["Content-Length"]) == len(answer.body)
        return samples_of(answer.body)

    def events(self, text: str, **fields: Any) -> bytes:
        """The sound of the event stream; raises what it tells."""
        request = urllib.request.Request(
            f"{self._base}/v1/audio/speech/stream",
            json.dumps({"input": text} | fields).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            assert answer.headers["Content-Type"].startswith("text/event-stream")
            return b"".join(self._decoded(answer))

    def _decoded(self, answer: Any) -> Iterator[bytes]:
        for line in answer:
            text = line.decode().rstrip("\n")
            if not text:
                continue
            assert text.startswith("data: "), f"a line without sound: {text!r}"
            data = text.removeprefix("data: ")
            if data == "[DONE]":
                return
            if data.startswith("[ERROR]"):
                raise RuntimeError(data)
            yield base64.b64decode(data, validate=True)
        raise EOFError("no [DONE]")

    def pcm(self, text: str, **fields: Any) -> tuple[int, bytes]:
        answer = self.post("/v1/audio/speech/stream/pcm", {"input": text} | fields)
        assert answer.status == 200, answer.body
        assert answer.headers["X-PCM-Bit-Depth"] == "16"
        assert answer.headers["X-PCM-Channels"] == "1"
        return int(answer.headers["X-PCM-Sample-Rate"]), answer.body

    def socket(self, *messages: dict[str, Any]) -> list[bytes]:
        """The sound of each message, one after the other on one socket."""
        heard = []
        with connect(self._socket, proxy=None, compression=None) as socket:
            for message in messages:
                socket.send(json.dumps(message))
                sound = b""
                while isinstance(piece := socket.recv(timeout=PATIENCE_S), bytes):
                    sound += piece
                event = json.loads(piece)
                if event["event"] == "error":
                    raise RuntimeError(event["detail"])
                assert event["event"] == "done", event
                heard.append(sound)
        return heard

    def clone(self, recording: bytes, **fields: str) -> Answer:
        border, named = uuid.uuid4().hex, "Content-Disposition: form-data"
        parts = [
            f'--{border}\r\n{named}; name="{name}"\r\n\r\n{text}\r\n'.encode()
            for name, text in fields.items()
        ]
        head = f'{named}; name="file"; filename="me.wav"'
        parts.append(f"--{border}\r\n{head}\r\nContent-Type: audio/wav\r\n\r\n".encode())
        body = b"".join([*parts, recording, f"\r\n--{border}--\r\n".encode()])
        kind = f"multipart/form-data; boundary={border}"
        return self._send("/v1/audio/speech/clone", body, {"Content-Type": kind})

    def _send(self, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        request = urllib.request.Request(self._base + path, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.headers, error.read())


def ask_desk(port: int, fields: dict[str, Any], path: str = "/") -> Answer:
    """What ``tts_client.py`` does with the NeuTTS server."""
    body = json.dumps(fields).encode()
    kind = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, kind)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return Answer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.headers, error.read())


def samples_of(file: bytes) -> tuple[int, bytes]:
    with wave.open(io.BytesIO(file)) as sound:
        assert (sound.getsampwidth(), sound.getnchannels()) == (2, 1)
        return sound.getframerate(), sound.readframes(sound.getnframes())
