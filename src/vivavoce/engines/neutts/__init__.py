"""NeuTTS: a small language model that continues a reference recording, and NeuCodec.

Needs the extra ``neutts`` (GGUF on llama.cpp, ONNX Runtime, no PyTorch) or ``neutts-torch``. This
package imports nothing heavy until the engine is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from vivavoce.engines.options import parse_options
from vivavoce.errors import MissingExtra

if TYPE_CHECKING:
    from vivavoce.engines.base import Engine
    from vivavoce.engines.neutts.options import NeuTTSOptions


def create(options: Mapping[str, Any]) -> Engine:
    """Make the NeuTTS engine, not yet loaded (entry point).

    ``options`` are the fields of ``options.NeuTTSOptions``. Raises SettingsError for an unknown or
    wrong option, MissingExtra where espeak-ng or every backbone's package is missing.
    """
    backbones = (find_spec("llama_cpp"), find_spec("torch"))
    if find_spec("piper") is None or not any(backbones):
        raise MissingExtra("The NeuTTS engine", "neutts")
    from vivavoce.engines.neutts.engine import NeuTTSEngine

    return NeuTTSEngine(parse_options(options_class(), "neutts", options))


def options_class() -> type[NeuTTSOptions]:
    """The class of this engine's options."""
    from vivavoce.engines.neutts.options import NeuTTSOptions

    return NeuTTSOptions
