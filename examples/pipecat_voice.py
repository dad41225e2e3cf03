"""The voice of a Pipecat bot: ``pip install "pipecat-ai[openai]"``.

Put ``voice()`` where your pipeline has its text-to-speech. When the user interrupts, Pipecat closes
the response, and the engine is free for the next turn. Names of voices are OpenAI's (alloy, nova,
…); ``vivavoce voices`` shows which voice of the engine each one is.
"""

from __future__ import annotations

import os

from pipecat.services.openai.tts import OpenAITTSService


def voice() -> OpenAITTSService:
    """A service that asks the server at ``VIVAVOCE_URL`` for samples at 24 kHz."""
    return OpenAITTSService(
        base_url=os.environ.get("VIVAVOCE_URL", "http://127.0.0.1:8000") + "/v1",
        api_key=os.environ.get("VIVAVOCE_API_KEY", "none"),
        sample_rate=24_000,
        settings=OpenAITTSService.Settings(model="tts-1", voice="alloy"),
    )
