"""ONNX Runtime, imported here and nowhere else: its telemetry is switched off before that.

Since 1.29 the official builds for Linux and macOS resolve a host of their maker, send it what
models are opened, and keep a device id in the home folder. ``ORT_DISABLE_TELEMETRY`` is read once,
when the library starts; see "Disabling Telemetry" in the Privacy.md of the package.
"""

from __future__ import annotations

import os
import sys
from typing import Any

TELEMETRY_OFF = "ORT_DISABLE_TELEMETRY"


def switch_telemetry_off() -> None:
    """Call it before anything imports ONNX Runtime, as piper-tts does; processes inherit it.

    Whoever sets the variable to something else has chosen. Where the library was started already
    by somebody else, what it has not sent yet stays here.
    """
    os.environ.setdefault(TELEMETRY_OFF, "1")
    started = sys.modules.get("onnxruntime")
    if started is not None and os.environ[TELEMETRY_OFF] == "1":
        started.disable_telemetry_events()


def onnx_runtime() -> Any:
    """The module ``onnxruntime``. Raises ImportError where it is not installed."""
    switch_telemetry_off()
    import onnxruntime

    return onnxruntime
