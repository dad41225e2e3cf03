"""The voice of a LiveKit agent: ``pip install livekit-agents livekit-plugins-openai``.

    session = AgentSession(tts=voice(), ...)

Bare samples, so that nothing is decoded on the way. LiveKit sends one sentence a request, and
cancels the request when the user interrupts.
"""

from __future__ import annotations

import os

from livekit.plugins import openai


def voice() -> openai.TTS:
    """A voice that asks the server at ``VIVAVOCE_URL``."""
    return openai.TTS(
        base_url=os.environ.get("VIVAVOCE_URL", "http://127.0.0.1:8000") + "/v1",
        api_key=os.environ.get("VIVAVOCE_API_KEY", "none"),
        model="tts-1",
        voice="alloy",
        response_format="pcm",
    )
