"""Qwen3-TTS: from text to codes, one frame of 80 ms of all rows at a time, and to sound.

Needs the extra ``qwen3``. This package imports nothing heavy until the engine is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from vivavoce.engines.options import parse_options
from vivavoce.errors import MissingExtra
from vivavoce.runtime.torch_threads import wait_without_spinning

if TYPE_CHECKING:
    from vivavoce.engines.base import Engine
    from vivavoce.engines.qwen3.options import Qwen3Options

REQUIRED = ("torch", "safetensors", "tokenizers")


def create(options: Mapping[str, Any]) -> Engine:
    """Make the Qwen3-TTS engine, not yet loaded (entry point).

    ``options`` are the fields of ``options.Qwen3Options``. Raises SettingsError for an unknown,
    wrong or unsupported option, MissingExtra where a package is not installed.
    """
    if any(find_spec(name) is None for name in REQUIRED):
        raise MissingExtra("The Qwen3-TTS engine", "qwen3")
    from vivavoce.engines.qwen3.engine import Qwen3Engine
    from vivavoce.engines.qwen3.options import refuse_unsupported

    parsed = parse_options(options_class(), "qwen3", options)
    refuse_unsupported(parsed)
    wait_without_spinning()
    return Qwen3Engine(parsed)


def options_class() -> type[Qwen3Options]:
    """The class of this engine's options."""
    from vivavoce.engines.qwen3.options import Qwen3Options

    return Qwen3Options
