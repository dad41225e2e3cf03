"""The way from an order to sound, for HTTP, sockets and the loudspeaker alike.

A protocol makes a ``SpeechOrder`` and hears in events what becomes of it. Between the two lies
everything that no protocol should know: the limits of whoever calls, the wait for the first sound,
the encoding, a receiver that no longer takes anything, the line in the log. Whoever leaves cancels
the task that speaks, which frees the engine's slot within one of its steps.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from starlette.types import Receive

from vivavoce.audio.encode import delivered_format, wav_header
from vivavoce.errors import InputError, SlowConsumer, VivavoceError
from vivavoce.serving.body import MAX_UNKNOWN_CHARS, MAX_UNKNOWN_NAMES
from vivavoce.serving.callers import counted, refusals_reported, voiced
from vivavoce.serving.logs import request_id
from vivavoce.serving.waiting import SpooledFile
from vivavoce.speech.encoding import EncodedAudio, encoded
from vivavoce.speech.service import SpeechService
from vivavoce.speech.stream import SpeechStream
from vivavoce.types import AudioFormat, SpeechRequest, Timings, Voice, WordTiming

log = logging.getLogger(__name__)

_NOT_A_TOKEN = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True, slots=True)
class SpeechOrder:
    """A request to speak and how to deliver it; ``sample_rate_hz`` None is the engine's own."""

    request: SpeechRequest
    encoding: str
    sample_rate_hz: int | None = None
    unknown_fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Started:
    """The first sound of an utterance is there, and how it will be delivered.

    ``ignored`` names fields without effect, fit for a header. ``size_bytes`` is the length of all
    that follows where that is known. ``voice`` is None for a recording.
    """

    utterance: str
    format: AudioFormat
    voice: Voice | None
    ignored: Sequence[str]
    timings: Timings
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Sound:
    """Encoded sound; ``emitted_samples``: how much has left with it, at the delivered rate."""

    utterance: str
    data: bytes
    emitted_samples: int = 0


@dataclass(frozen=True, slots=True)
class Words:
    """Words whose sound has left, at their places in it."""

    utterance: str
    words: tuple[WordTiming, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """All of an utterance has left."""

    utterance: str
    timings: Timings


@dataclass(frozen=True, slots=True)
class Failed:
    """An utterance ends with an error; without one, it is about what was asked for."""

    error: VivavoceError
    utterance: str | None = None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """So many utterances were ended as asked for; nothing of them follows."""

    count: int


Event: TypeAlias = Started | Sound | Words | Done | Failed | Cancelled


class Session:
    """Speaks orders and tells ``receive`` what becomes of them.

    ``receive`` is a SlowConsumer where it takes an event for longer than the stall limit.
    ``transport`` is what the metrics call the protocol.
    """

    def __init__(
        self, service: SpeechService, transport: str, receive: Callable[[Event], Awaitable[None]]
    ) -> None:
        self._service = service
        self._transport = transport
        self._receive = receive

    async def speak(self, order: SpeechOrder) -> None:
        """Speak as sound is made: Started once the first is there, Sound and Words, Done.

        What is raised before Started leaves nothing told. Raises what ``opened`` and its stream
        raise, and SlowConsumer.
        """
        async with opened(self._service, order.request, self._transport) as stream:
            target = delivered_format(order.encoding, order.sample_rate_hz, stream.sample_rate_hz)
            async with aclosing(encoded(stream, stream.sample_rate_hz, target)) as pieces:
                first = await anext(pieces)
                await self.tell(_started(order, stream, target))
                await self._tell_piece(first)
                async for piece in pieces:
                    await self._tell_piece(piece)
                    if stream.timings.cached:
                        await asyncio.sleep(0)  # remembered sound never waits for anything
        _log_spoken(order, stream)
        await self.tell(Done(request_id.get(), stream.timings))

    async def speak_whole(self, order: SpeechOrder, file: SpooledFile) -> None:
        """Make all of it, give the engine's slot back, and tell it as its receiver takes it."""
        async with opened(self._service, order.request, self._transport) as stream:
            target = delivered_format(order.encoding, order.sample_rate_hz, stream.sample_rate_hz)
            await _write_whole(stream, target, file)
        wav = target.encoding == "wav"
        opening = wav_header(target.sample_rate_hz, file.size) if wav else b""
        await self.tell(_started(order, stream, target, len(opening) + file.size))
        patience_s = self._service.options.limits.request_timeout_s + stream.timings.audio_s
        try:
            async with asyncio.timeout(patience_s):
                await self.tell(Sound(request_id.get(), opening))
                async for data in file.pieces():
                    await self.tell(Sound(request_id.get(), data))
                    await asyncio.sleep(0)  # memory never waits for anything
                await self.tell(Done(request_id.get(), stream.timings))
        except TimeoutError:
            raise SlowConsumer(f"Not read within {patience_s:.0f} s.") from None
        _log_spoken(order, stream)

    def tell(self, event: Event) -> Awaitable[None]:
        """Give an event to the receiver. Raises SlowConsumer."""
        return self.in_time(self._receive(event))

    async def in_time(self, sending: Awaitable[None]) -> None:
        """Wait until something was sent. Raises SlowConsumer after the stall limit."""
        stall_timeout_s = self._service.options.limits.stall_timeout_s
        try:
            async with asyncio.timeout(stall_timeout_s):
                await sending
        except TimeoutError:
            raise SlowConsumer(f"Nothing was read for {stall_timeout_s:g} s.") from None

    async def _tell_piece(self, piece: EncodedAudio) -> None:
        if piece.data:
            await self.tell(Sound(request_id.get(), piece.data, piece.emitted_samples))
        if piece.words:
            await self.tell(Words(request_id.get(), piece.words))


@asynccontextmanager
async def opened(
    service: SpeechService, request: SpeechRequest, transport: str
) -> AsyncIterator[SpeechStream]:
    """``SpeechService.open`` within what whoever calls may.

    Where their voices are listed and the request names none, it is the first of the list. Raises
    also Unauthorized, RateLimited, Forbidden and VoiceNotAllowed; no slot is asked for then.
    """
    with refusals_reported(service, transport):
        allowed = voiced(service, request)
    with counted(service, transport):
        async with service.open(allowed, transport) as stream:
            yield stream


@contextmanager
def invalid_counted(service: SpeechService, transport: str) -> Iterator[None]:
    """Count what is refused here, once: it does not reach the speech service."""
    try:
        yield
    except InputError:
        service.observer.finished("invalid", Timings(), transport)
        raise


async def until_disconnect(receive: Receive, work: Coroutine[Any, Any, None]) -> bool:
    """Run ``work``, cancelling it when the client disconnects. False if it was cancelled.

    The request's body must have been read. Raises what ``work`` raises. Servers that announce ASGI
    ``spec_version`` 2.4 or later make Starlette notice a disconnect only at the next send; a
    request that waits for a slot sends nothing. So ``receive`` is listened to here.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _stop(leaving)
        finished = working.done()
        if not finished:
            await _stop(working)
    if finished:
        working.result()
    return finished


def header_names(unknown: Sequence[str], ignored: Sequence[str]) -> list[str]:
    """Names of fields that mean nothing here, or nothing to the engine, fit for a header."""
    names = [*unknown, *ignored][:MAX_UNKNOWN_NAMES]
    return [_NOT_A_TOKEN.sub("_", name)[:MAX_UNKNOWN_CHARS] for name in names]


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _stop(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it has cleaned up."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()


def _started(
    order: SpeechOrder, stream: SpeechStream, target: AudioFormat, size_bytes: int | None = None
) -> Started:
    ignored = header_names(order.unknown_fields, stream.ignored)
    return Started(request_id.get(), target, stream.voice, ignored, stream.timings, size_bytes)


async def _write_whole(stream: SpeechStream, target: AudioFormat, file: SpooledFile) -> None:
    """Write a stream to a file; a WAV without its header, which needs the length."""
    inner = AudioFormat("pcm", target.sample_rate_hz) if target.encoding == "wav" else target
    async with aclosing(encoded(stream, stream.sample_rate_hz, inner)) as pieces:
        async for piece in pieces:
            await file.write(piece.data)
            if stream.timings.cached:
                await asyncio.sleep(0)  # remembered sound never waits for anything


def _log_spoken(order: SpeechOrder, stream: SpeechStream) -> None:
    """One line about speech that was delivered; nothing of what it said."""
    timings = stream.timings
    extra = {
        "characters": timings.characters,
        "audio_s": round(timings.audio_s, 2),
        "queue_ms": round(timings.queue_ms, 1),
        "first_audio_ms": round(timings.first_audio_ms or 0.0, 1),
        "cached": timings.cached,
        "encoding": order.encoding,
    }
    if ignored := header_names(order.unknown_fields, stream.ignored):
        extra["ignored"] = ", ".join(ignored)
    log.info("spoken", extra=extra)
