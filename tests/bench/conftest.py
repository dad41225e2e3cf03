"""A small stand-in server: speaks the wire contract, and goes wrong where the text says so."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse, Response, StreamingResponse

RATE_HZ = 8_000
CHUNK_S = 0.04
STALL_S = 0.4


def tone_bytes(seconds: float, level: float = 0.5) -> bytes:
    """A steady level as mono s16le."""
    return np.full(round(RATE_HZ * seconds), level * 32_767, dtype="<i2").tobytes()


def wav_head() -> bytes:
    sizes = (0xFFFFFFFF).to_bytes(4, "little")
    fmt = b"fmt " + (16).to_bytes(4, "little") + (1).to_bytes(2, "little") * 2
    fmt += RATE_HZ.to_bytes(4, "little") + (2 * RATE_HZ).to_bytes(4, "little")
    fmt += (2).to_bytes(2, "little") + (16).to_bytes(2, "little")
    return b"RIFF" + sizes + b"WAVE" + fmt + b"data" + sizes


async def sound(text: str) -> AsyncIterator[bytes]:
    """Three chunks of tone, altered by words in the text."""
    if "SILENCE" in text:
        yield tone_bytes(0.2, level=0.0)
    yield tone_bytes(CHUNK_S)
    if "STALL" in text:
        await asyncio.sleep(STALL_S)
    if "BREAK" in text:
        raise ConnectionError("planted")
    yield tone_bytes(CHUNK_S)
    yield tone_bytes(CHUNK_S) + (b"\0" if "ODD" in text else b"")


@dataclass
class StandIn:
    """The app, where it listens, and what it was asked."""

    url: str = ""
    texts: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    rate_hz: int = RATE_HZ
    audio_s: float = 3 * CHUNK_S

    def app(self) -> FastAPI:
        app = FastAPI()
        app.post("/v1/audio/speech")(self.speech)
        app.post("/v1/audio/speech/stream/pcm")(self.speech)
        app.websocket("/v1/audio/speech/ws")(self.socket)
        return app

    def note(self, body: dict[str, Any], key: str | None) -> str:
        self.bodies.append(body)
        self.texts.append(body["input"])
        self.keys.append(key)
        return str(body["input"])

    async def speech(self, request: Request) -> Response:
        body = await request.json()
        text = self.note(body, request.headers.get("authorization"))
        if "REJECT" in text:
            error = {"message": "full", "type": "rate_limit", "param": None, "code": "busy"}
            headers = {"Retry-After": "2", "retry-after-ms": "1500"}
            return JSONResponse({"error": error}, 429, headers)
        if "FAULT" in text:
            error = {"message": "no", "type": "server", "param": None, "code": "engine_error"}
            return JSONResponse({"error": error}, 500)
        if "NOTHING" in text:
            return Response(b"", media_type="audio/pcm")
        if "ODDRATE" in text:
            return Response(b"12", headers={"X-PCM-Sample-Rate": "fast"}, media_type="audio/pcm")
        if "HANG" in text:
            await asyncio.sleep(30)
        if body.get("response_format") == "wav":
            media_type = "audio/basic" if "MISNAMED" in text else "audio/wav"
            return StreamingResponse(self.wav(text), media_type=media_type)
        headers = {"X-PCM-Sample-Rate": str(RATE_HZ)}
        return StreamingResponse(sound(text), media_type="audio/pcm", headers=headers)

    async def wav(self, text: str) -> AsyncIterator[bytes]:
        yield wav_head()
        async for chunk in sound(text):
            yield chunk

    async def socket(self, socket: WebSocket) -> None:
        await socket.accept()
        try:
            while True:
                await self.answer(socket, json.loads(await socket.receive_text()))
        except (WebSocketDisconnect, ConnectionError):
            return

    async def answer(self, socket: WebSocket, body: dict[str, Any]) -> None:
        text = self.note(body, socket.headers.get("authorization"))
        if "REJECT" in text:
            await socket.send_json({"event": "error", "code": "busy", "retry_after_ms": 700})
            return
        if "ODDRATE" in text:
            await socket.send_json({"event": "start"})
        await socket.send_json({"event": "start", "sample_rate": RATE_HZ, "format": "pcm"})
        async for chunk in sound(text):
            await socket.send_bytes(chunk)
        if "FAULT" in text:
            await socket.send_json({"event": "error", "code": "engine_error", "detail": "no"})
            return
        await socket.send_json({"event": "done"})


@pytest.fixture(scope="session")
def stand_in_server() -> Iterator[StandIn]:
    state = StandIn()
    config = uvicorn.Config(state.app(), port=0, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="stand-in")
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    state.url = f"http://127.0.0.1:{port}"
    yield state
    server.should_exit = True
    server.force_exit = True
    thread.join()


@pytest.fixture
def stand_in(stand_in_server: StandIn) -> StandIn:
    """The running stand-in server, with nothing noted yet."""
    stand_in_server.texts.clear()
    stand_in_server.bodies.clear()
    stand_in_server.keys.clear()
    return stand_in_server
