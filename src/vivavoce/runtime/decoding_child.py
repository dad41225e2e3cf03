"""The process that decodes recordings: ``python -m vivavoce.runtime.decoding_child BOUNDS``."""

from __future__ import annotations

import struct

from vivavoce.audio.decode import decode_audio
from vivavoce.errors import InvalidAudio
from vivavoce.runtime.worker_child import serve

DECODED, REFUSED = b"+", b"-"
RATE = struct.Struct(">I")


def answer(recording: bytes) -> bytes:
    """``+``, the rate in Hz and the samples (float32, little endian); or ``-`` and why not."""
    try:
        samples, sample_rate_hz = decode_audio(recording)
    except InvalidAudio as error:
        return REFUSED + error.message.encode("utf-8", "backslashreplace")
    return b"".join([DECODED, RATE.pack(sample_rate_hz), samples.astype("<f4").tobytes()])


def main() -> None:
    """Answer until there is nothing more to decode."""
    # Loaded before memory is bounded: what a recording needs is counted from here on.
    import av  # noqa: F401
    import soxr  # noqa: F401

    serve(answer)


if __name__ == "__main__":
    main()
