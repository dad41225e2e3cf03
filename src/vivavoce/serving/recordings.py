"""Recordings that callers upload, decoded off the event loop."""

from __future__ import annotations

import asyncio

from vivavoce.audio.decode import decode_audio
from vivavoce.types import ReferenceAudio


async def read_recording(data: bytes, transcript: str | None, param: str) -> ReferenceAudio:
    """A reference recording with its transcript, if known. Raises InvalidAudio for ``param``."""
    samples, sample_rate_hz = await asyncio.to_thread(decode_audio, data, param=param)
    return ReferenceAudio(samples, sample_rate_hz, transcript or None)
