"""Whole files that wait to be sent: in memory while they are small, in a nameless file beyond.

A file without a name is gone with the process, however that ends. Disks are read and written in
threads of their own.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import BinaryIO, TypeVar, cast

from vivavoce.errors import SpoolFull

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
