"""espeak-ng as the engines share it: it keeps global state, so that one call runs at a time."""

from __future__ import annotations

import threading
from importlib.metadata import version

ESPEAK_LOCK = threading.Lock()
"""Held by whoever calls espeak-ng, from choosing its voice to the end of the call."""


def espeak_version() -> str:
    """The package that brings espeak-ng; its bridge does not tell espeak-ng's own version."""
    return f"piper-tts {version('piper-tts')}"
