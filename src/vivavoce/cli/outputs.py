"""Where ``vivavoce say`` puts its sound: a file, standard output, or the loudspeaker."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from vivavoce.audio.encode import SoundFile, delivered_format
from vivavoce.audio.formats import ENCODINGS, find_encoding
from vivavoce.errors import InputError, MissingExtra, PlaybackError
from vivavoce.types import AudioChunk, AudioFormat

if TYPE_CHECKING:
    from vivavoce.audio.playback import Playback as Speaker

STDOUT = "-"
LONG_TEXT_CHARS = 400
"""From here on the progress is shown."""


class Output(Protocol):
    """Takes the chunks of one speech."""

    def push(self, chunk: AudioChunk) -> None:
        """Take a piece of sound."""

    def finish(self) -> None:
        """There is no more; return when it is safely away."""


class FileOutput:
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
def file_output(
    output: str, encoding: str | None, rate: tuple[int, int | None]
) -> Iterator[Output]:
    """An output into a file, or standard output for ``-``. ``rate`` is the engine's and the wanted.

    A file appears under its name only when it is whole. Raises InputError for an unknown format.
    """
    source_hz, wanted_hz = rate
    target = delivered_format(encoding_for(output, encoding), wanted_hz, source_hz)
    with _opened(output) as file:
        written = FileOutput(file, source_hz, target)
        try:
            yield written
        finally:
            written.close()


class PlaybackOutput:
    """Queues sound for the loudspeaker, which takes it in a thread of its own."""

    def __init__(self, player: Speaker) -> None:
        self._player = player

    def push(self, chunk: AudioChunk) -> None:
        """Queue a chunk; waits only while minutes of sound are queued already."""
        self._player.wait_for_room()
        self._player.push(chunk)

    def finish(self) -> None:
        """Nothing is left to make; the loudspeaker ends when the output is left."""


@contextmanager
def playback_output(sample_rate_hz: int) -> Iterator[Output]:
    """Into the default loudspeaker; leaving it waits until all was heard, or falls silent.

    Raises PlaybackError where nothing can be played.
    """
    with _player(sample_rate_hz) as player:
        yield PlaybackOutput(player)


def _player(sample_rate_hz: int) -> Speaker:
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


@dataclass(frozen=True, slots=True)
class Target:
    """Where the sound goes: a file name, ``-`` for standard output, None for the loudspeaker."""

    output: str | None
    encoding: str | None
    sample_rate_hz: int | None

    def __post_init__(self) -> None:
        if self.output is None and (self.encoding or self.sample_rate_hz):
            raise InputError("--format and --sample-rate are for files: name one with -o.")

    def check(self) -> None:
        """Raise InputError or PlaybackError before any time is spent on loading."""
        if self.output is not None:
            encoding_for(self.output, self.encoding)

    def open(self, engine_hz: int) -> AbstractContextManager[Output]:
        """The output for sound at the engine's rate."""
        if self.output is None:
            return playback_output(engine_hz)
        return file_output(self.output, self.encoding, (engine_hz, self.sample_rate_hz))


@contextmanager
def progress(text: str, speed: float) -> Iterator[Callable[[float], None]]:
    """Show how much of a long text is spoken: on standard error, where a person looks at it.

    What it gives is told the seconds of sound so far. How many there will be is an estimate.
    """
    if len(text) < LONG_TEXT_CHARS or not sys.stderr.isatty():
        yield lambda audio_s: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    from vivavoce.text.duration import expected_duration_s

    total_s = expected_duration_s(text, speed)
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total_s)

        def report(audio_s: float) -> None:
            spoken_s = min(audio_s, 0.99 * total_s)
            bar.update(task, completed=spoken_s, description=f"{audio_s:.0f} s of speech")

        yield report
        bar.update(task, completed=total_s)
