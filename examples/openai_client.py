"""Speak through OpenAI's SDK, and play or keep the sound while it is still being made.

    pip install openai
    python examples/openai_client.py "Hello there." hello.wav

The server is the one at ``VIVAVOCE_URL`` (http://127.0.0.1:8000), its key ``VIVAVOCE_API_KEY``.
"""

from __future__ import annotations

import os
import sys
import time
import wave

from openai import OpenAI

RATE_HZ = 24_000  # OpenAI's "pcm": 16 bits, one channel, little-endian


def main(text: str, path: str) -> None:
    """Ask for bare samples, and take each piece when it arrives."""
    client = OpenAI(
        base_url=os.environ.get("VIVAVOCE_URL", "http://127.0.0.1:8000") + "/v1",
        api_key=os.environ.get("VIVAVOCE_API_KEY", "none"),
        max_retries=3,  # the SDK waits as long as the server's Retry-After says
    )
    began_s = time.perf_counter()
    with (
        client.audio.speech.with_streaming_response.create(
            model="gpt-4o-mini-tts", voice="alloy", input=text, response_format="pcm"
        ) as response,
        wave.open(path, "wb") as file,
    ):
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        first_ms = None
        for piece in response.iter_bytes(4800):
            first_ms = first_ms or (time.perf_counter() - began_s) * 1000
            file.writeframes(piece)  # or hand it to your loudspeaker, or your call
    print(f"first sound after {first_ms:.0f} ms, all of it in {path}")


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["Hello there.", "hello.wav"]))
