"""The embedded voice: Piper (VITS) models on ONNX Runtime, streamed inside the sentence.

Needs the extra ``piper``. This package imports nothing heavy until ``create`` is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from vivavoce.engines.options import parse_options
from vivavoce.errors import MissingExtra

if TYPE_CHECKING:
    from vivavoce.engines.base import Engine
    from vivavoce.engines.piper.options import PiperOptions

REQUIRED = ("onnxruntime", "onnx", "piper")


def create(options: Mapping[str, Any]) -> Engine:
    """Make the Piper engine, not yet loaded (entry point).

    ``options`` are the fields of ``options.PiperOptions``. Raises SettingsError for an unknown or
    wrong option, MissingExtra where a package is not installed.
    """
    if any(find_spec(name) is None for name in REQUIRED):
        raise MissingExtra("The Piper engine", "piper")
    from vivavoce.engines.piper.engine import PiperEngine

    return PiperEngine(parse_options(options_class(), "piper", options))


def options_class() -> type[PiperOptions]:
    """The class of this engine's options."""
    from vivavoce.engines.piper.options import PiperOptions

    return PiperOptions
