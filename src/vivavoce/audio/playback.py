"""Playback on the default sound device, and a player with the same face that plays nothing.

Sound goes through a queue from the thread that makes it to the thread that plays it.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Any

import numpy as np

from vivavoce.audio.resample import Resampler
from vivavoce.errors import MissingExtra, PlaybackError
from vivavoce.types import AudioChunk, Samples

MAX_QUEUED_S = 600.0
"""How far synthesis may run ahead of playback: about 58 MB at 24,000 Hz."""

_NULL_BLOCK_S = 0.02
_ALIVE_CHECK_S = 0.5


class SampleQueue:
    """A queue of samples with a lock that is held for moments only.

    ``underruns`` counts the times that the taker wanted more than there was before the end.
    """

    def __init__(self) -> None:
        self._pieces: deque[Samples] = deque()
        self._queued = 0
        self._ended = False
        self._changed = threading.Condition()
        self.underruns = 0

    def __len__(self) -> int:
        return self._queued

    @property
    def drained(self) -> bool:
        """Whether the end was announced and everything was taken."""
        return self._ended and not self._queued

    def put(self, samples: Samples) -> None:
        """Append float32 (n,); ignored after the end."""
        with self._changed:
            if len(samples) and not self._ended:
                self._pieces.append(samples)
                self._queued += len(samples)

    def take_into(self, out: Samples) -> int:
        """Fill ``out``, float32 (n,), and return how many samples were there; the rest is 0."""
        filled = 0
        with self._changed:
            while filled < len(out) and self._pieces:
                piece = self._pieces.popleft()
                part = piece[: len(out) - filled]
                out[filled : filled + len(part)] = part
                filled += len(part)
                if len(part) < len(piece):
                    self._pieces.appendleft(piece[len(part) :])
            self._queued -= filled
            self.underruns += filled < len(out) and not self._ended
            self._changed.notify_all()
        out[filled:] = np.float32(0.0)
        return filled

    def end(self) -> None:
        """Announce that nothing more comes."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def drop(self) -> None:
        """Forget everything and end."""
        with self._changed:
            self._pieces.clear()
            self._queued = 0
            self._ended = True
            self._changed.notify_all()

    def wait_until_at_most(self, samples: int, timeout_s: float | None = None) -> bool:
        """Wait until no more than so many samples are queued; False if time ran out."""
        with self._changed:
            return self._changed.wait_for(lambda: self._queued <= samples, timeout_s)


class Playback(ABC):
    """Something that plays chunks in order.

    ``push`` never waits; a producer that may run far ahead calls ``wait_for_room`` in between.
    As a context manager it stops on the way out of an exception and finishes otherwise.
    """

    def __init__(self, sample_rate_hz: int, max_queued_s: float = MAX_QUEUED_S) -> None:
        self._sample_rate_hz = sample_rate_hz
        self._output_hz = sample_rate_hz
        self._max_queued_s = max_queued_s
        self._queue = SampleQueue()

    @property
    def queued_s(self) -> float:
        """Seconds of sound that wait to be played."""
        return len(self._queue) / self._output_hz

    @property
    def underruns(self) -> int:
        """How often playback ran dry before the end."""
        return self._queue.underruns

    def push(self, chunk: AudioChunk) -> None:
        """Queue a chunk; returns at once.

        Raises PlaybackError for another sample rate than the player's and for a full queue.
        """
        if chunk.sample_rate_hz != self._sample_rate_hz:
            raise PlaybackError(
                f"This playback runs at {self._sample_rate_hz} Hz; a chunk has "
                f"{chunk.sample_rate_hz} Hz."
            )
        if self.queued_s > self._max_queued_s:
            raise PlaybackError(f"Playback is more than {self._max_queued_s:g} s behind.")
        self._queue.put(self._convert(chunk.samples))

    def wait_for_room(self, timeout_s: float | None = None) -> bool:
        """Wait until the queue is at most half full; False if time ran out."""
        half = int(self._max_queued_s / 2 * self._output_hz)
        return self._queue.wait_until_at_most(half, timeout_s)

    def drop(self) -> None:
        """Forget what is queued and what comes, so that ``finish`` ends; from any thread."""
        self._queue.drop()

    @abstractmethod
    def finish(self) -> None:
        """Wait until everything was played, then close."""

    @abstractmethod
    def stop(self) -> None:
        """Fall silent at once, drop what is queued, close. Harmless when closed."""

    def _convert(self, samples: Samples) -> Samples:
        return samples

    def __enter__(self) -> Playback:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.stop()


class NullPlayer(Playback):
    """Plays nothing: takes sound in real time, or at once with ``real_time=False``.

    ``played_samples`` counts what was taken.
    """

    def __init__(
        self, sample_rate_hz: int, max_queued_s: float = MAX_QUEUED_S, *, real_time: bool = True
    ) -> None:
        super().__init__(sample_rate_hz, max_queued_s)
        self.played_samples = 0
        self._pause_s = _NULL_BLOCK_S if real_time else 0.0
        self._stopped = threading.Event()
        self._more = threading.Event()
        self._thread = threading.Thread(target=self._play, name="null-player", daemon=True)
        self._thread.start()

    def push(self, chunk: AudioChunk) -> None:
        """Queue a chunk; returns at once."""
        super().push(chunk)
        self._more.set()

    def drop(self) -> None:
        """Take no more."""
        super().drop()
        self._stopped.set()
        self._more.set()

    def finish(self) -> None:
        """Wait until everything was taken."""
        self._queue.end()
        self._more.set()
        self._thread.join()

    def stop(self) -> None:
        """Drop what is queued."""
        self.drop()
        self._thread.join()

    def _play(self) -> None:
        block = np.zeros(round(self._sample_rate_hz * _NULL_BLOCK_S), np.float32)
        self._more.wait()
        while not self._queue.drained:
            taken = self._queue.take_into(block)
            self.played_samples += taken
            if not taken and not self._pause_s:
                self._more.clear()
                if not len(self._queue) and not self._queue.drained:
                    self._more.wait(_NULL_BLOCK_S)
            self._stopped.wait(self._pause_s)


class Player(Playback):
    """Plays on the default device through sounddevice.

    The device takes its sound from a queue in its own thread, so that synthesis and playback
    never wait for each other. A device that refuses the sample rate gets its own, by resampling.
    Raises MissingExtra without sounddevice, and PlaybackError without PortAudio or a device.
    """

    def __init__(self, sample_rate_hz: int, max_queued_s: float = MAX_QUEUED_S) -> None:
        super().__init__(sample_rate_hz, max_queued_s)
        self._sounddevice = _load_sounddevice()
        self._done = threading.Event()
        self._closed = False
        try:
            self._output_hz = self._device_rate_hz()
            self._resampler = Resampler(sample_rate_hz, self._output_hz)
            self._stream = self._sounddevice.OutputStream(
                samplerate=self._output_hz,
                channels=1,
                dtype="float32",
                callback=self._fill,
                finished_callback=self._done.set,
            )
            self._start()
        except (self._sounddevice.PortAudioError, ValueError) as error:
            raise PlaybackError(f"No usable audio device: {error}.") from error

    def finish(self) -> None:
        """Wait until everything was played, then close the device.

        Raises PlaybackError where the device went away before.
        """
        self._queue.put(self._resampler.finish())
        self._queue.end()
        # A device that was pulled out ends without a word.
        while not self._done.wait(_ALIVE_CHECK_S) and self._alive():
            pass
        heard = self._queue.drained
        self._close()
        if not heard:
            raise PlaybackError("The audio device went away before all was played.")

    def stop(self) -> None:
        """Fall silent at once and close the device."""
        self._queue.drop()
        if not self._closed:
            self._stream.abort()
        self._close()

    def _start(self) -> None:
        try:
            self._stream.start()
        except self._sounddevice.PortAudioError:
            self._stream.close()
            raise

    def _alive(self) -> bool:
        try:
            return bool(self._stream.active)
        except self._sounddevice.PortAudioError:
            return False

    def _close(self) -> None:
        self._closed = True
        self._done.set()
        # Closing twice does nothing; aborting a closed stream would fail. So may closing a device
        # that was pulled out, and then there is nothing left to close.
        with suppress(self._sounddevice.PortAudioError):
            self._stream.close()

    def _convert(self, samples: Samples) -> Samples:
        return self._resampler.push(samples)

    def _device_rate_hz(self) -> int:
        """The stream's own rate where the device takes it, else the device's default."""
        try:
            self._sounddevice.check_output_settings(
                channels=1, dtype="float32", samplerate=self._sample_rate_hz
            )
        except self._sounddevice.PortAudioError:
            device = self._sounddevice.query_devices(kind="output")
            return int(device["default_samplerate"])
        return self._sample_rate_hz

    def _fill(self, out: Any, _frames: int, _time: Any, _status: Any) -> None:
        self._queue.take_into(out[:, 0])
        if self._queue.drained:
            raise self._sounddevice.CallbackStop


def _load_sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError as error:
        raise MissingExtra("Playback", "playback") from error
    except OSError as error:
        raise PlaybackError(
            "The PortAudio library is missing; on Debian and Ubuntu: apt install libportaudio2."
        ) from error
    return sounddevice
