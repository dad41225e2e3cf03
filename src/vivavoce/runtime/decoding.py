"""Recordings decoded in a process apart, so that a fault of a decoder is nobody else's.

Decoders are C that reads strangers' bytes. Here a crash, a hang or a small file that becomes a
large one costs its own upload an error, and neither a call nor the server.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vivavoce.audio.decode import MAX_BYTES, MAX_DURATION_S, MAX_RATE_HZ, read_recording_file
from vivavoce.errors import InvalidAudio, WorkerDied
from vivavoce.runtime.decoding_child import DECODED, RATE, REFUSED
from vivavoce.runtime.worker import IDLE_S, WorkerPool, ask_once
from vivavoce.runtime.worker_child import Bounds
from vivavoce.types import Samples

DECODES_AT_ONCE = 2
MODULE = "vivavoce.runtime.decoding_child"
BOUNDS = Bounds(
    memory_bytes=256 * 1024 * 1024,
    cpu_s=10,
    wall_s=20,
    request_bytes=MAX_BYTES,
    answer_bytes=int(MAX_DURATION_S * MAX_RATE_HZ) * 4 + 1024,
)
_LONGEST_REASON = 500


class RecordingDecoder:
    """Decodes recordings, ``DECODES_AT_ONCE`` at a time. Use it from one event loop."""

    def __init__(self, *, idle_s: float = IDLE_S, bounds: Bounds = BOUNDS) -> None:
        self.pool = WorkerPool(MODULE, bounds, at_most=DECODES_AT_ONCE, idle_s=idle_s)

    async def decode(self, data: bytes, *, param: str | None = None) -> bytes:
        """What the process makes of a recording, for ``samples_of``. Cancel it to give it up.

        Raises InvalidAudio, with ``param``, where it died of it; SetupError where none starts.
        """
        _check_size(data, param)
        try:
            return await self.pool.ask(data)
        except WorkerDied as error:
            raise _died(error, param) from error

    async def close(self) -> None:
        """End the processes."""
        await self.pool.close()


def samples_of(answer: bytes, *, param: str | None = None) -> tuple[Samples, int]:
    """A decoded recording: mono float32 (n,) in [-1, 1], n > 0, and its rate in Hz.

    Nothing the process says is taken on trust. Raises InvalidAudio, with ``param``, for what it
    refused, and for nonsense.
    """
    if answer[:1] == REFUSED:
        reason = answer[1:].decode("utf-8", "replace")[:_LONGEST_REASON]
        raise InvalidAudio(reason, param=param)
    nonsense = InvalidAudio("The recording cannot be decoded.", param=param)
    head = len(DECODED) + RATE.size
    if answer[:1] != DECODED or len(answer) <= head or (len(answer) - head) % 4:
        raise nonsense
    (rate_hz,) = RATE.unpack_from(answer, len(DECODED))
    samples = np.frombuffer(answer, "<f4", offset=head).astype(np.float32)
    whole = rate_hz > 0 and len(samples) <= MAX_DURATION_S * rate_hz <= MAX_DURATION_S * MAX_RATE_HZ
    if not whole or not np.isfinite(samples).all() or np.abs(samples).max() > 1.0:
        raise nonsense
    return samples, rate_hz


def decode_file(path: str | Path, *, param: str | None = None) -> tuple[Samples, int]:
    """A recording on disk, decoded in a process of its own; blocks. For the command line.

    Raises InvalidAudio, also where the file cannot be read, and SetupError.
    """
    data = read_recording_file(path, param=param)
    _check_size(data, param)
    try:
        answer = ask_once(MODULE, BOUNDS, data)
    except WorkerDied as error:
        raise _died(error, param) from error
    return samples_of(answer, param=param)


def _check_size(data: bytes, param: str | None) -> None:
    if len(data) > MAX_BYTES:
        raise InvalidAudio(
            f"The recording has {len(data)} bytes; at most {MAX_BYTES} are accepted.", param=param
        )


def _died(error: WorkerDied, param: str | None) -> InvalidAudio:
    return InvalidAudio(f"The recording cannot be decoded: {error.message}.", param=param)
