"""Whole files wait in little memory, in a bounded space, and leave nothing behind."""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
import threading
from pathlib import Path

import pytest
from tests.serving.conftest import settle

from vivavoce.errors import SpoolFull
from vivavoce.serving.waiting import PIECE_BYTES, SpooledFile, SpoolSpace

KIB = 1024


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Temporary files are made here."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def open_files(folder: Path) -> int:
    """Files below a folder that this process has open, with or without a name."""
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        try:
            count += os.readlink(link).startswith(str(folder))
        except FileNotFoundError:
            continue
    return count


async def filled(file: SpooledFile, size: int, piece: int = 10_000) -> bytes:
    written = bytes(at % 251 for at in range(size))
    for at in range(0, size, piece):
        await file.write(written[at : at + piece])
    return written


async def read(file: SpooledFile) -> list[bytes]:
    return [piece async for piece in file.pieces()]


@pytest.mark.parametrize("size", [0, 1, 64 * KIB, 64 * KIB + 1, 200 * KIB, 900 * KIB])
@pytest.mark.parametrize("memory_bytes", [0, 100 * KIB, 1_000 * KIB])
async def test_what_was_written_is_read_in_small_pieces(size: int, memory_bytes: int) -> None:
    async with SpoolSpace(memory_bytes=memory_bytes).file() as file:
        written = await filled(file, size)
        pieces = await read(file)
    assert b"".join(pieces) == written
    assert file.size == size
    assert all(len(piece) <= PIECE_BYTES for piece in pieces)


async def test_only_what_is_large_goes_to_disk(folder: Path) -> None:
    space = SpoolSpace(memory_bytes=100 * KIB)
    async with space.file() as small, space.file() as large:
        await filled(small, 100 * KIB)
        assert open_files(folder) == 0
        await filled(large, 101 * KIB)
        assert open_files(folder) == 1
        assert os.listdir(folder) == []  # it has no name
    assert open_files(folder) == 0


async def test_all_files_together_are_bounded() -> None:
    space = SpoolSpace(300 * KIB, memory_bytes=50 * KIB)
    async with space.file() as first, space.file() as second:
        await filled(first, 200 * KIB)
        with pytest.raises(SpoolFull):
            await filled(second, 101 * KIB)
    assert space.used_bytes == 0
    async with space.file() as third:
        await filled(third, 300 * KIB)


async def test_a_full_disk_is_a_clear_error_and_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        """A file on a disk without room."""

        def writelines(self, pieces: list[bytes]) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    space = SpoolSpace(memory_bytes=10 * KIB)
    with pytest.raises(SpoolFull):
        async with space.file() as file:
            await filled(file, 20 * KIB)
    assert space.used_bytes == 0


async def test_a_folder_that_is_not_there_is_the_same_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")
    with pytest.raises(SpoolFull):
        async with SpoolSpace(memory_bytes=10 * KIB).file() as file:
            await filled(file, 20 * KIB)


async def test_the_disk_is_left_to_other_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that hangs holds up its own file, and nobody else."""
    go_on, begun = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []
    make = tempfile.TemporaryFile

    def slow():  # type: ignore[no-untyped-def]
        threads.append(threading.current_thread())
        begun.set()
        go_on.wait(10)
        return make()

    monkeypatch.setattr(tempfile, "TemporaryFile", slow)
    async with SpoolSpace(memory_bytes=10 * KIB).file() as file:
        writing = asyncio.create_task(filled(file, 20 * KIB))
        await asyncio.to_thread(begun.wait, 10)
        assert not writing.done()
        go_on.set()
        written = await writing
        assert b"".join(await read(file)) == written
    assert threading.current_thread() not in threads


async def test_a_caller_who_leaves_while_the_disk_hangs_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, begun = threading.Event(), threading.Event()
    make = tempfile.TemporaryFile

    def slow():  # type: ignore[no-untyped-def]
        begun.set()
        go_on.wait(10)
        return make()

    monkeypatch.setattr(tempfile, "TemporaryFile", slow)
    space = SpoolSpace(memory_bytes=10 * KIB)

    async def call() -> None:
        async with space.file() as file:
            await filled(file, 20 * KIB)

    calling = asyncio.create_task(call())
    await asyncio.to_thread(begun.wait, 10)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert space.used_bytes == 0
    go_on.set()
    assert settle(lambda: open_files(folder) == 0)
