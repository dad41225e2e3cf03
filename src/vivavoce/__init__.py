"""vivavoce: text-to-speech for live voice conversations.

>>> import vivavoce
>>> with vivavoce.load("fake") as synthesizer:
...     speech = synthesizer.synthesize("Hello there.")
>>> speech.sample_rate_hz
24000
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vivavoce.errors import VivavoceError
    from vivavoce.speech.synthesizer import (
        Speech,
        SpeechIterator,
        SpeechParameters,
        Synthesizer,
        load,
    )
    from vivavoce.types import AudioChunk, ReferenceAudio, Sampling, SpeechRequest, Timings, Voice

__version__ = "0.1.0"

__all__ = [
    "AudioChunk",
    "ReferenceAudio",
    "Sampling",
    "Speech",
    "SpeechIterator",
    "SpeechParameters",
    "SpeechRequest",
    "Synthesizer",
    "Timings",
    "VivavoceError",
    "Voice",
    "__version__",
    "load",
]

_HOMES = {
    "AudioChunk": "vivavoce.types",
    "ReferenceAudio": "vivavoce.types",
    "Sampling": "vivavoce.types",
    "SpeechRequest": "vivavoce.types",
    "Timings": "vivavoce.types",
    "Voice": "vivavoce.types",
    "VivavoceError": "vivavoce.errors",
    "Speech": "vivavoce.speech.synthesizer",
    "SpeechIterator": "vivavoce.speech.synthesizer",
    "SpeechParameters": "vivavoce.speech.synthesizer",
    "Synthesizer": "vivavoce.speech.synthesizer",
    "load": "vivavoce.speech.synthesizer",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for only then: ``import vivavoce`` stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'vivavoce' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """What a caller may use."""
    return __all__
