"""Settings of the servers people move over from, for what nobody has set.

Apart from the rest, because the command line needs them and none of what a server imports.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType({
    "qwen3-tts-server": MappingProxyType({
        "engine": "qwen3",
        "port": 8101,
        "max_queue_depth": 5,
    }),
    "neutts-server": MappingProxyType({
        "engine": "neutts",
        "port": 5555,
        "playback": "device",
        "output_dir": ".",
    }),
})  # fmt: skip
"""``output_dir`` is the folder the server is started in."""
