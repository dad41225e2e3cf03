"""llama.cpp as a library: imported once, its messages kept, its devices named."""

from __future__ import annotations

import ctypes
import logging
from collections import deque
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vivavoce.errors import MissingExtra, SettingsError
from vivavoce.types import Gpu

log = logging.getLogger(__name__)

LEVELS = {1: logging.DEBUG, 2: logging.DEBUG, 3: logging.INFO, 4: logging.DEBUG}
"""GGML log levels. Its errors become our exceptions, so none is louder than INFO."""

ERROR_LEVEL = 3
GPU_DEVICES = (1, 2)
"""``enum ggml_backend_dev_type``: a GPU of its own, one that shares the CPU's memory."""

_complaints: deque[str] = deque(maxlen=4)
_held: list[Any] = []
"""What llama.cpp has a bare pointer to."""


@cache
def library() -> Any:
    """``llama_cpp.llama_cpp``, initialized. Raises MissingExtra.

    llama.cpp has one place for messages in a process; from now on they go to this module's
    logger.
    """
    if find_spec("llama_cpp") is None:
        raise MissingExtra("A NeuTTS model in a GGUF file", "neutts")
    from llama_cpp import llama_cpp as lib

    listener = lib.llama_log_callback(_listen)
    _held.append(listener)
    lib.llama_log_set(listener, ctypes.c_void_p(0))
    lib.llama_backend_init()
    return lib


def last_complaint() -> str:
    """What llama.cpp said last about an error; reading it forgets it."""
    said = "; ".join(_complaints)
    _complaints.clear()
    return said or "no reason given"


def gpu_devices() -> tuple[str, ...]:
    """The GPUs llama.cpp can use: ``cuda:0``, ``vulkan:0``, ``metal``. Empty without offload."""
    lib = library()
    if not lib.llama_supports_gpu_offload():
        return ()
    ggml = _ggml(Path(lib.__file__).parent / "lib")
    devices = [ggml.ggml_backend_dev_get(index) for index in range(ggml.ggml_backend_dev_count())]
    names = [
        ggml.ggml_backend_dev_name(device).decode()
        for device in devices
        if ggml.ggml_backend_dev_type(device) in GPU_DEVICES
    ]
    return tuple(map(_device_name, names))


def used_gpu() -> Gpu | None:
    """The first GPU llama.cpp can use, with the memory it says is free and in all."""
    if not gpu_devices():
        return None
    ggml = _ggml(Path(library().__file__).parent / "lib")
    every = (ggml.ggml_backend_dev_get(index) for index in range(ggml.ggml_backend_dev_count()))
    device = next(each for each in every if ggml.ggml_backend_dev_type(each) in GPU_DEVICES)
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    ggml.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
    name = ggml.ggml_backend_dev_description(device).decode("utf-8", "replace")
    return Gpu(name, free.value, total.value)


def check_device(gpu_layers: int) -> str:
    """Where a model with ``gpu_layers`` runs (0: CPU). Raises SettingsError where it cannot."""
    if gpu_layers == 0:
        return "cpu"
    devices = gpu_devices()
    if not devices:
        raise SettingsError(
            "The backbone was asked to run on a GPU, but this llama.cpp is built without GPU "
            "support or finds no GPU. Set backbone_device to cpu, or install llama-cpp-python "
            "built for your GPU.",
            param="backbone_device",
        )
    return devices[0]


def _listen(level: int, text: bytes, _data: object) -> None:
    line = text.decode("utf-8", "replace").strip()
    if not line:
        return
    if level == ERROR_LEVEL:
        _complaints.append(line)
    log.log(LEVELS.get(level, logging.DEBUG), "%s", line)


def _device_name(name: str) -> str:
    kind = name.rstrip("0123456789")
    number = name[len(kind) :]
    return f"{kind.lower()}:{number}" if number else kind.lower()


@cache
def _ggml(folder: Path) -> Any:
    found = sorted(folder.glob("*ggml.*")) or sorted(folder.glob("*ggml*"))
    ggml = ctypes.CDLL(str(found[0]))
    pointer = ctypes.c_void_p
    ggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    ggml.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    ggml.ggml_backend_dev_get.restype = pointer
    ggml.ggml_backend_dev_name.argtypes = [pointer]
    ggml.ggml_backend_dev_name.restype = ctypes.c_char_p
    ggml.ggml_backend_dev_type.argtypes = [pointer]
    ggml.ggml_backend_dev_type.restype = ctypes.c_int
    ggml.ggml_backend_dev_description.argtypes = [pointer]
    ggml.ggml_backend_dev_description.restype = ctypes.c_char_p
    size = ctypes.POINTER(ctypes.c_size_t)
    ggml.ggml_backend_dev_memory.argtypes = [pointer, size, size]
    ggml.ggml_backend_dev_memory.restype = None
    return ggml
