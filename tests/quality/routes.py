"""One text through each way to speech: the command and four routes, as sound that can be heard.

``Rendition.PHONE`` is 8 kHz µ-law: asked for where a route offers it, else coded from its 8 kHz
PCM, as a telephone gateway would.
"""

from __future__ import annotations

import base64
import enum
import io
import json
import subprocess
import tempfile
import wave
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.sync.client import connect

from quality.live import COMMAND, LiveServer, clean_environment
from vivavoce.audio.g711 import ulaw_decode, ulaw_encode

WIDE_HZ = 24_000
PHONE_HZ = 8_000


class Rendition(enum.Enum):
    """What kind of sound is asked for."""

    WIDE = "24 kHz"
    PHONE = "8 kHz u-law"

    @property
    def rate_hz(self) -> int:
        """Its sample rate."""
        return WIDE_HZ if self is Rendition.WIDE else PHONE_HZ


@dataclass(frozen=True, slots=True)
class Order:
    """A text and how it is to sound; ``fields`` go into the request as they are."""

    text: str
    rendition: Rendition = Rendition.WIDE
    fields: Mapping[str, Any] = field(default_factory=dict)

    def body(self, **more: Any) -> dict[str, Any]:
        """The request."""
        fields = {"input": self.text, "sample_rate": self.rendition.rate_hz}
        return fields | dict(self.fields) | more

    def heard(self, pcm: bytes) -> NDArray[np.float32]:
        """s16le at the rendition's rate, through µ-law where that is asked for."""
        samples = np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(32768.0)
        if self.rendition is Rendition.PHONE:
            return ulaw_decode(ulaw_encode(samples))
        return samples


Speak = Callable[[LiveServer, Order], "NDArray[np.float32]"]


def by_say(server: LiveServer, order: Order) -> NDArray[np.float32]:
    """``vivavoce say``; the server is not asked."""
    options = order.fields.get("options", {})
    words = [f"--option={name}={value}" for name, value in options.items()]
    if "seed" in order.fields:
        words += ["--seed", str(order.fields["seed"])]
    phone = order.rendition is Rendition.PHONE
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / ("speech.ulaw" if phone else "speech.wav")
        words += ["-o", str(target), "--sample-rate", str(order.rendition.rate_hz)]
        subprocess.run(
            [*COMMAND, "say", "--engine", "piper", *words, "--", order.text],
            check=True,
            capture_output=True,
            env=clean_environment(),
        )
        data = target.read_bytes()
    return ulaw_decode(data) if phone else order.heard(wav_pcm(data, WIDE_HZ))


def by_speech(server: LiveServer, order: Order) -> NDArray[np.float32]:
    """``POST /v1/audio/speech``."""
    phone = order.rendition is Rendition.PHONE
    body = order.body(response_format="ulaw" if phone else "wav")
    with server.client() as client:
        answer = client.post("/v1/audio/speech", json=body).raise_for_status()
    return ulaw_decode(answer.content) if phone else order.heard(wav_pcm(answer.content, WIDE_HZ))


def by_stream(server: LiveServer, order: Order) -> NDArray[np.float32]:
    """``POST /v1/audio/speech/stream``: base64 in events."""
    with server.client() as client:
        answer = client.post("/v1/audio/speech/stream", json=order.body()).raise_for_status()
    first, *events, done = answer.text.strip().split("\n\n")
    assert json.loads(first.partition("data: ")[2])["sample_rate"] == order.rendition.rate_hz
    assert done == "data: [DONE]"
    return order.heard(b"".join(base64.b64decode(one.removeprefix("data: ")) for one in events))


def by_pcm(server: LiveServer, order: Order) -> NDArray[np.float32]:
    """``POST /v1/audio/speech/stream/pcm``."""
    with server.client() as client:
        answer = client.post("/v1/audio/speech/stream/pcm", json=order.body()).raise_for_status()
    assert answer.headers["X-PCM-Sample-Rate"] == str(order.rendition.rate_hz)
    return order.heard(answer.content)


def by_websocket(server: LiveServer, order: Order) -> NDArray[np.float32]:
    """The WebSocket at ``/v1/audio/speech/ws``."""
    address = f"ws://127.0.0.1:{server.port}/v1/audio/speech/ws"
    with connect(address, proxy=None, max_size=None) as socket:
        socket.send(json.dumps(order.body()))
        start = json.loads(socket.recv())
        assert (start["event"], start["sample_rate"]) == ("start", order.rendition.rate_hz)
        pieces = []
        while isinstance(message := socket.recv(), bytes):
            pieces.append(message)
        assert json.loads(message)["event"] == "done", message
    return order.heard(b"".join(pieces))


ROUTES: Mapping[str, Speak] = {
    "speech": by_speech,
    "stream": by_stream,
    "stream/pcm": by_pcm,
    "ws": by_websocket,
    "say": by_say,
}


def wav_pcm(data: bytes, expected_hz: int) -> bytes:
    """The sound of a mono 16-bit WAV, whose length a streaming server cannot know."""
    with wave.open(io.BytesIO(data)) as file:
        assert file.getframerate() == expected_hz
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        sound: bytes = file.readframes(file.getnframes())
        return sound
