"""Where ``vivavoce say`` puts its sound: a file, standard output, or the loudspeaker."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from vivavoce.audio.encode import SoundFile, delivered_format
from vivavoce.audio.formats import ENCODINGS, find_encoding
from vivavoce.errors import InputError, MissingExtra, PlaybackError
from vivavoce.types import AudioChunk, AudioFormat

if TYPE_CHECKING:
    from vivavoce.audio.playback import Playback as PlayerSink

STDOUT = "-"


class Sink(Protocol):
    """Takes the chunks of one speech."""

    def push(self, chunk: AudioChunk) -> None:
        """Take a piece of sound."""

    def finish(self) -> None:
        """There is no more; return when it is safely away."""


class FileSink:
    """Encodes into an open file, in the caller's thread: the service's event loop is in another."""

    def __init__(self, file: BinaryIO, source_hz: int, target: AudioFormat) -> None:
        self._sound = SoundFile(file, source_hz, target)

    def push(self, chunk: AudioChunk) -> None:
        """Write what the encoder gives."""
        self._sound.push(chunk.samples)

    def finish(self) -> None:
        """Write the rest; a WAV file that can be rewound gets its true sizes."""
        self._sound.finish()

    def close(self) -> None:
        """Give up what is unfinished. Idempotent."""
        self._sound.close()


@contextmanager
def file_sink(output: str, encoding: str | None, rate: tuple[int, int | None]) -> Iterator[Sink]:
    """A sink into a file, or standard output for ``-``. ``rate`` is the engine's and the wanted.

    A file appears under its name only when it is whole. Raises InputError for an unknown format.
    """
    source_hz, wanted_hz = rate
    target = delivered_format(encoding_for(output, encoding), wanted_hz, source_hz)
    with _opened(output) as file:
        sink = FileSink(file, source_hz, target)
        try:
            yield sink
        finally:
            sink.close()


class PlaybackSink:
    """Queues sound for the loudspeaker, which takes it in a thread of its own."""

    def __init__(self, player: PlayerSink) -> None:
        self._player = player

    def push(self, chunk: AudioChunk) -> None:
        """Queue a chunk; waits only while minutes of sound are queued already."""
        self._player.wait_for_room()
        self._player.push(chunk)

    def finish(self) -> None:
        """Nothing is left to make; the loudspeaker ends when the sink is left."""


@contextmanager
def playback_sink(sample_rate_hz: int) -> Iterator[Sink]:
    """A sink into the default loudspeaker; leaving it waits until all was heard, or falls silent.

    Raises PlaybackError where nothing can be played.
    """
    with _player(sample_rate_hz) as player:
        yield PlaybackSink(player)


def _player(sample_rate_hz: int) -> PlayerSink:
    from vivavoce.audio.playback import Player

    try:
        return Player(sample_rate_hz)
    except (PlaybackError, MissingExtra) as error:
        raise PlaybackError(f"{error.message} To write a file instead: -o FILE") from error


def encoding_for(output: str, encoding: str | None) -> str:
    """The encoding asked for, or the one the file's ending names. Raises InputError."""
    if encoding is not None:
        return find_encoding(encoding).name
    ending = Path(output).suffix.lstrip(".").lower()
    if output == STDOUT or not Path(output).suffix:
        return "wav"
    if ending not in ENCODINGS:
        known = ", ".join(sorted(ENCODINGS))
        raise InputError(f"No format is known for .{ending}; name one with --format: {known}.")
    return ending


@contextmanager
def _opened(output: str) -> Iterator[BinaryIO]:
    if output == STDOUT:
        if sys.stdout.isatty():
            raise InputError("Sound on a terminal helps nobody: redirect it, or use -o FILE.")
        yield sys.stdout.buffer
        return
    path = Path(output)
    if path.exists() and not path.is_file():  # a device or a pipe
        with path.open("wb") as file:
            yield file
        return
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
