"""A socket that speaks, whatever its dialect: it is listened to while it speaks.

A dialect reads messages and writes events, and knows nothing of sound. Texts are spoken in the
order in which they came. What waits on all sockets together is bounded, and shared: a few texts of
usual length may always wait on a socket; beyond that a socket may hold as much as is free, so that
one alone gets half of what there is for all.
"""

from __future__ import annotations

import asyncio
import collections
import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from starlette.websockets import WebSocket, WebSocketDisconnect

from vivavoce.errors import Busy, InputError, SlowConsumer, Unauthorized, VivavoceError
from vivavoce.serving.auth import POLICY_VIOLATION
from vivavoce.serving.connections import ABORT, BUSY
from vivavoce.serving.context import ServerContext
from vivavoce.serving.logs import request_id
from vivavoce.serving.session import (
    Cancelled,
    Event,
    Failed,
    Session,
    SpeechOrder,
    invalid_counted,
)
from vivavoce.serving.waiting import Share, size_of

log = logging.getLogger(__name__)

MAX_PENDING = 8
"""Texts that may wait while another is spoken."""

PENDING_RETRY_MS = 1_000


@dataclass(frozen=True, slots=True)
class Speak:
    """Speak this after what was asked for before."""

    order: SpeechOrder


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop what is spoken, and forget what waits."""


@dataclass(frozen=True, slots=True)
class Close:
    """End the connection with this code, after an error where there is one."""

    code: int
    error: VivavoceError | None = None


Command: TypeAlias = Speak | Cancel | Close


class Dialect(Protocol):
    """One protocol's messages. ``transport`` is what the metrics call it."""

    transport: str

    async def read(self, message: str | bytes) -> Command:
        """What a message asks for. Raises InputError."""

    def write(self, event: Event) -> str | bytes | None:
        """The message that tells an event; None where the protocol has none for it."""


@dataclass(frozen=True, slots=True)
class _Pending:
    order: SpeechOrder
    request_id: str
    size: int


class Conversation:
    """One socket: a task that listens and a task that speaks."""

    def __init__(self, socket: WebSocket, context: ServerContext, dialect: Dialect) -> None:
        self._socket = socket
        self._context = context
        self._dialect = dialect
        self._session = Session(context.service, dialect.transport, self._write)
        self._pending: collections.deque[_Pending] = collections.deque()
        self._share = Share(context.waiting)
        self._arrived = asyncio.Event()
        self._speaking: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._identity = request_id.get()
        self._count = 0

    async def run(self) -> None:
        """Listen and speak; whichever ends first ends both."""
        tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._speak_all())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            self._forget()
        for result in results:
            if isinstance(result, SlowConsumer):
                self._abort(result)
            elif isinstance(result, Exception) and not isinstance(result, WebSocketDisconnect):
                raise result

    async def _listen(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            try:
                with invalid_counted(self._context.service, self._dialect.transport):
                    command = await self._dialect.read(message["bytes"] if text is None else text)
                if isinstance(command, Speak):
                    self._enqueue(command.order)
            except (InputError, Busy) as error:
                await self._session.tell(Failed(error))
                continue
            if isinstance(command, Cancel):
                await self._cancel()
            elif isinstance(command, Close):
                if command.error is not None:
                    await self._session.tell(Failed(command.error))
                await self._socket.close(command.code)
                return

    def _enqueue(self, order: SpeechOrder) -> None:
        if len(self._pending) >= MAX_PENDING:
            message = f"{MAX_PENDING} texts wait on this socket already."
            raise Busy(message, retry_after_ms=PENDING_RETRY_MS)
        size = size_of(order.request)
        self._share.take(size)
        self._count += 1
        self._pending.append(_Pending(order, f"{self._identity}-{self._count}", size))
        self._arrived.set()

    def _forget(self) -> None:
        """Drop what waits."""
        self._pending.clear()
        self._share.give_all_back()

    async def _cancel(self) -> None:
        """Stop what is spoken and forget what waits; nothing of it is sent after the answer."""
        count = len(self._pending)
        self._forget()
        speaking = self._speaking
        if speaking is not None and not speaking.done():
            count += 1
            speaking.cancel()
            await asyncio.wait({speaking})
        await self._session.tell(Cancelled(count))

    async def _speak_all(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            self._tell_busy(True)
            while self._pending:
                pending = self._pending.popleft()
                self._share.give_back(pending.size)
                self._speaking = asyncio.create_task(self._speak(pending))
                del pending
                try:
                    await asyncio.wait({self._speaking})
                finally:
                    self._speaking.cancel()
                    await asyncio.wait({self._speaking})
                with suppress(asyncio.CancelledError):
                    self._speaking.result()
            self._tell_busy(False)

    async def _speak(self, pending: _Pending) -> None:
        """Speak one text. Raises SlowConsumer where the client has stopped reading."""
        request_id.set(pending.request_id)
        with self._context.in_flight.one():
            try:
                await self._session.speak(pending.order)
            except SlowConsumer:
                raise
            except VivavoceError as error:
                await self._session.tell(Failed(error, pending.request_id))
                if isinstance(error, Unauthorized):  # the key was removed, or the token expired
                    self._forget()
                    with suppress(SlowConsumer):
                        await self._session.in_time(self._close(POLICY_VIOLATION))

    async def _close(self, code: int) -> None:
        async with self._writing:
            await self._socket.close(code)

    async def _write(self, event: Event) -> None:
        message = self._dialect.write(event)
        if message is None:
            return
        async with self._writing:
            if isinstance(message, bytes):
                await self._socket.send_bytes(message)
            else:
                await self._socket.send_text(message)

    def _tell_busy(self, busy: bool) -> None:
        tell = self._socket.scope.get("extensions", {}).get(BUSY)
        if tell is not None:
            tell(busy)

    def _abort(self, error: SlowConsumer) -> None:
        log.warning("speech ended early", extra={"code": error.code, "why": error.message})
        abort = self._socket.scope.get("extensions", {}).get(ABORT)
        if abort is not None:
            abort()
