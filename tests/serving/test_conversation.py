"""A socket of any dialect: it is listened to while it speaks. Dialects know nothing of sound."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from vivavoce.errors import InputError
from vivavoce.serving.context import ServerContext
from vivavoce.serving.conversation import (
    MAX_PENDING,
    Cancel,
    Close,
    Command,
    Conversation,
    Speak,
)
from vivavoce.serving.session import Cancelled, Done, Event, Failed, Sound, SpeechOrder, Started
from vivavoce.settings import Settings
from vivavoce.speech.service import SpeechService
from vivavoce.testing.fake_engine import FakeEngine, FakeOptions
from vivavoce.types import SpeechRequest


class Plain:
    """Words in capitals are commands; every other text is spoken. Events are their own names."""

    transport = "plain"

    async def read(self, message: str | bytes) -> Command:
        match message:
            case "STOP":
                return Cancel()
            case "BYE":
                return Close(1000)
            case bytes():
                return Close(1003, InputError("No bytes."))
            case "":
                raise InputError("Nothing.")
        return Speak(SpeechOrder(SpeechRequest(message), "ulaw", 8_000))

    def write(self, event: Event) -> str | bytes | None:
        match event:
            case Sound(data=data):
                return data
            case Started():
                return None
            case Done(utterance=utterance):
                return f"done {utterance[-2:]}"
            case Failed(error=error):
                return f"failed {error.code}"
            case Cancelled(count=count):
                return f"cancelled {count}"
        return None


class Socket:
    """What a conversation needs of Starlette's."""

    def __init__(self) -> None:
        self.scope: dict[str, Any] = {"extensions": {}}
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[str | bytes] = []
        self.closed: list[int] = []

    def say(self, *messages: str | bytes) -> None:
        for each in messages:
            kind = "bytes" if isinstance(each, bytes) else "text"
            self.incoming.put_nowait({"type": "websocket.receive", kind: each})

    def leave(self) -> None:
        self.incoming.put_nowait({"type": "websocket.disconnect"})

    async def receive(self) -> dict[str, Any]:
        return await self.incoming.get()

    async def send_text(self, text: str) -> None:
        self.sent.append(text)

    async def send_bytes(self, data: bytes) -> None:
        self.sent.append(data)

    async def close(self, code: int) -> None:
        self.closed.append(code)

    async def until(self, text: str) -> None:
        async with asyncio.timeout(10):
            while text not in self.sent:  # noqa: ASYNC110 - whatever the conversation sends
                await asyncio.sleep(0.001)


@asynccontextmanager
async def talking(**fake: Any) -> AsyncIterator[tuple[Socket, SpeechService]]:
    """A conversation, which ends with the caller's leaving and leaves nothing behind."""
    service = SpeechService(FakeEngine(FakeOptions(**fake)))
    await service.start()
    socket, context = Socket(), ServerContext(service, Settings(engine="fake"))
    free = context.waiting.free_bytes
    talk = Conversation(socket, context, Plain())  # type: ignore[arg-type]
    running = asyncio.create_task(talk.run())
    try:
        yield socket, service
        socket.leave()
        async with asyncio.timeout(10):
            await running
        assert service.admission.running == service.admission.waiting == 0
        assert context.waiting.free_bytes == free and context.in_flight.count == 0
    finally:
        running.cancel()
        await asyncio.wait({running})
        await service.close()


async def test_texts_are_spoken_in_their_order_and_what_has_no_message_is_left_out() -> None:
    async with talking() as (socket, _):
        socket.say("One.", "Two.")
        await socket.until("done -2")
    texts = [each for each in socket.sent if isinstance(each, str)]
    assert texts == ["done -1", "done -2"]
    assert isinstance(socket.sent[0], bytes), "nothing tells a start"


async def test_a_cancel_is_obeyed_while_sound_is_on_its_way() -> None:
    async with talking(paced=True) as (socket, service):
        socket.say("A long text that nobody hears to its end. " * 20, "Never.")
        async with asyncio.timeout(10):
            while not socket.sent:  # noqa: ASYNC110 - the first sound
                await asyncio.sleep(0.001)
        socket.say("STOP")
        await socket.until("cancelled 2")
        count = len(socket.sent)
        assert service.admission.running == 0
        socket.say("STOP")
        await socket.until("cancelled 0")
        assert len(socket.sent) == count + 1, "nothing follows a cancel"


async def test_what_a_dialect_cannot_read_is_told_and_the_socket_goes_on() -> None:
    async with talking() as (socket, _):
        socket.say("", "One.")
        await socket.until("done -1")
    assert socket.sent[0] == f"failed {InputError('x').code}"
    assert socket.closed == []


async def test_more_than_may_wait_is_refused_and_the_rest_is_spoken() -> None:
    async with talking(paced=True) as (socket, _):
        socket.say(*["word " * 20] * (MAX_PENDING + 2))
        await socket.until("failed busy")
        socket.say("STOP")
        async with asyncio.timeout(10):
            while not str(socket.sent[-1]).startswith("cancelled"):  # noqa: ASYNC110 - its answer
                await asyncio.sleep(0.001)


@pytest.mark.parametrize(("message", "code", "last"), [("BYE", 1000, []), (b"x", 1003, ["failed"])])
async def test_a_dialect_may_end_the_connection(
    message: str | bytes, code: int, last: list[str]
) -> None:
    async with talking() as (socket, _):
        socket.say(message)
        async with asyncio.timeout(10):
            while not socket.closed:  # noqa: ASYNC110 - the close
                await asyncio.sleep(0.001)
    assert socket.closed == [code]
    assert [str(each).split()[0] for each in socket.sent] == last
