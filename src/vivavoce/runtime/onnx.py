"""ONNX Runtime, imported here and nowhere else: its telemetry is switched off before that.

Since 1.29 the official builds for Linux and macOS resolve a host of their maker, send it what
models are opened, and keep a device id in the home folder. ``ORT_DISABLE_TELEMETRY`` is read once,
when the library starts; see "Disabling Telemetry" in the Privacy.md of the package.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

from vivavoce.errors import ModelFileError, SettingsError

TELEMETRY_OFF = "ORT_DISABLE_TELEMETRY"
ARENA_START_BYTES = 1 << 20

OnnxDevice: TypeAlias = Literal["cpu", "cuda"]
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


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


def require_device(device: OnnxDevice, option: str = "device") -> None:
    """Raises SettingsError, about ``option``, where ONNX Runtime cannot use the device.

    Nothing falls back. Raises ImportError where ONNX Runtime is not installed.
    """
    available = onnx_runtime().get_available_providers()
    if PROVIDERS[device] not in available:
        raise SettingsError(
            f"{option}={device!r} needs ONNX Runtime's CUDA provider "
            f"(pip install onnxruntime-gpu); this one has: {', '.join(available)}.",
            param=option,
        )


def open_session(path: Path, device: OnnxDevice, threads: int, option: str = "device") -> Any:
    """Open one graph. Raises ModelFileError, and SettingsError, about ``option``, where the device
    does not start."""
    ort = onnx_runtime()
    _share_arena()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Lengths differ from run to run: remembered layouts would only cost memory.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.use_env_allocators", "1")
    # Idle threads that spin would take the cores that others compute or serve on.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    provider = PROVIDERS[device]
    try:
        session = ort.InferenceSession(str(path), options, providers=[provider])
    except Exception as error:
        raise ModelFileError(f"ONNX Runtime cannot load {path}: {error}") from error
    if session.get_providers()[0] != provider:
        raise SettingsError("ONNX Runtime's CUDA provider did not start.", param=option)
    return session


@cache
def _share_arena() -> None:
    """One memory arena for every session of the process, in place of one each.

    Measured with three graphs of a voice in two threads: 180 MB resident instead of 230, and no
    slower.
    """
    ort = onnx_runtime()
    where = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    next_power_of_two, no_limit = 0, 0
    ort.create_and_register_allocator(
        where, ort.OrtArenaCfg(no_limit, next_power_of_two, ARENA_START_BYTES, -1)
    )
