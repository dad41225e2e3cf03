"""Room for what waits in a server: texts on its sockets, and whole files that are being sent.

What all texts that wait take together is bounded, and shared. A few texts of usual length may
always wait on a socket. Beyond that a socket may hold as much as is free, so that one alone gets
half of what there is for all.

Whole files are in memory while they are small, in a nameless file beyond, which is gone with the
process, however that ends. Disks are read and written in threads of their own.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from typing import BinaryIO, TypeVar, cast

from vivavoce.errors import Busy, SpoolFull
from vivavoce.types import SpeechRequest

MAX_WAITING_BYTES = 32 * 1024 * 1024
OWN_BYTES = 32 * 1024
RETRY_MS = 1_000

_TEXT_BYTES = 2_048
_ENTRY_BYTES = 128
"""What objects and dictionaries take beside the strings in them."""


class WaitingTexts:
    """What is free for all. Use it from one event loop."""

    def __init__(self, most_bytes: int = MAX_WAITING_BYTES) -> None:
        self.free_bytes = most_bytes


class Share:
    """What one socket holds: ``OWN_BYTES`` that nobody else can take, and then of what is free."""

    def __init__(self, room: WaitingTexts) -> None:
        self._room = room
        self._held_bytes = 0

    @property
    def _borrowed_bytes(self) -> int:
        return max(0, self._held_bytes - OWN_BYTES)

    def take(self, size: int) -> None:
        """Hold so many bytes more. Raises Busy."""
        wanted = max(0, self._held_bytes + size - OWN_BYTES)
        if wanted and wanted > self._room.free_bytes:
            raise Busy("Too much text waits on this server's sockets.", retry_after_ms=RETRY_MS)
        self._change(size)

    def give_back(self, size: int) -> None:
        """Hold so many bytes less."""
        self._change(-size)

    def give_all_back(self) -> None:
        """Hold nothing."""
        self._change(-self._held_bytes)

    def _change(self, by: int) -> None:
        before = self._borrowed_bytes
        self._held_bytes += by
        self._room.free_bytes -= self._borrowed_bytes - before


def size_of(request: SpeechRequest) -> int:
    """About how many bytes a request takes while it waits."""
    entries = list(chain(request.lexicon.items(), request.options.items()))
    texts = (request.text, request.voice, request.instructions)
    strings = chain(texts, *entries)
    return _TEXT_BYTES + len(entries) * _ENTRY_BYTES + sum(map(sys.getsizeof, strings))


log = logging.getLogger(__name__)

T = TypeVar("T")

MEMORY_BYTES = 8 * 1024 * 1024
"""The most of one file that is kept in memory."""

TOTAL_BYTES = 512 * 1024 * 1024
"""The most of all files together, in memory and on disk."""

WRITE_BYTES = 256 * 1024
PIECE_BYTES = 64 * 1024
THREADS = 2


class SpoolSpace:
    """Room for the whole files of one server. Use it from one event loop."""

    def __init__(self, total_bytes: int = TOTAL_BYTES, memory_bytes: int = MEMORY_BYTES) -> None:
        self.total_bytes = total_bytes
        self.memory_bytes = memory_bytes
        self.used_bytes = 0
        self._threads = ThreadPoolExecutor(THREADS, "spool")

    def file(self) -> SpooledFile:
        """A new file; enter it as a context, which frees its room at the end."""
        return SpooledFile(self)

    def take(self, size: int) -> None:
        """Raise SpoolFull where there is no room for ``size`` bytes more."""
        if self.used_bytes + size > self.total_bytes:
            raise SpoolFull("Too much finished speech waits to be sent; try again, or stream it.")
        self.used_bytes += size

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Do something with a disk, in a thread."""
        return self._threads.submit(work)


class SpooledFile:
    """Bytes that are written once, then read once. ``size`` counts what was written."""

    def __init__(self, space: SpoolSpace) -> None:
        self.size = 0
        self._space = space
        self._pieces: list[bytes] = []
        self._held = 0
        self._file: BinaryIO | None = None
        self._working: Future[object] | None = None

    async def __aenter__(self) -> SpooledFile:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._space.used_bytes -= self.size
        self._pieces.clear()
        if self._working is None:
            self._close()
        else:  # a file must not be closed under the thread that still writes it
            self._working.add_done_callback(lambda _: self._close())

    async def write(self, data: bytes) -> None:
        """Add some. Raises SpoolFull where the space or the disk is full."""
        self._space.take(len(data))
        self.size += len(data)
        self._pieces.append(data)
        self._held += len(data)
        most = self._space.memory_bytes if self._file is None else WRITE_BYTES
        if self._held > most:
            await self._write_out()

    async def pieces(self) -> AsyncIterator[bytes]:
        """All of it, in pieces of at most 64 KiB. Raises SpoolFull for a disk that fails."""
        if self._file is None:
            held = bytearray()
            for data in self._pieces:
                held += data
                while len(held) > PIECE_BYTES:
                    yield bytes(held[:PIECE_BYTES])
                    del held[:PIECE_BYTES]
            yield bytes(held)
            return
        await self._write_out()
        file = self._file
        await self._do(lambda: file.seek(0))
        while data := await self._do(lambda: file.read(PIECE_BYTES)):
            yield data

    async def _write_out(self) -> None:
        pieces, self._pieces, self._held = self._pieces, [], 0

        def write() -> None:
            if self._file is None:
                self._file = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115
            self._file.writelines(pieces)
            self._file.flush()

        await self._do(write)

    async def _do(self, work: Callable[[], T]) -> T:
        """Do something with the disk. Cancelling this lets it end before the file is closed."""
        working = self._space.submit(work)
        self._working = cast("Future[object]", working)
        try:
            return await asyncio.wrap_future(working)
        except OSError as error:
            log.warning("the temporary folder fails", extra={"why": error.strerror or str(error)})
            raise SpoolFull("The server has no room for a whole file now; stream it.") from error
        finally:
            if working.done():
                self._working = None

    def _close(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # a full disk, once more
                self._file.close()
