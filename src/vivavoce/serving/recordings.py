"""Recordings that callers upload, decoded off the event loop."""

from __future__ import annotations

import asyncio

from vivavoce.audio.decode import decode_audio
from vivavoce.errors import InputError
from vivavoce.text import is_speakable
from vivavoce.types import ReferenceAudio


async def read_recording(data: bytes, transcript: str | None, param: str) -> ReferenceAudio:
    """A reference recording with its transcript, if known.

    Raises InvalidAudio for ``param``, InputError for a transcript without words.
    """
    if transcript is not None and not is_speakable(transcript):
        raise InputError("ref_text is empty; leave it out if it is not known.", param="ref_text")
    samples, sample_rate_hz = await asyncio.to_thread(decode_audio, data, param=param)
    return ReferenceAudio(samples, sample_rate_hz, transcript)
