"""NVIDIA's driver, asked itself: through NVML, which comes with it on Linux, WSL2 and Windows.

It knows what is there where no other library does: with a PyTorch that is built without CUDA, or
for a newer one than the driver has, and under WSL2, where ``/proc`` shows no driver.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from typing import Any

from vivavoce.types import Gpu

LIBRARIES = ("libnvidia-ml.so.1", "/usr/lib/wsl/lib/libnvidia-ml.so.1", "nvml.dll")
TEXT_BYTES = 96


@dataclass(frozen=True, slots=True)
class Driver:
    """What the driver says: its version ("580.95.05"), the newest CUDA it runs, the cards."""

    version: str
    cuda: tuple[int, int]
    gpus: tuple[Gpu, ...]

    @property
    def branch(self) -> int:
        """The number that says what a driver can: 580 of 580.95.05."""
        first = self.version.partition(".")[0]
        return int(first) if first.isdecimal() else 0


class _Memory(ctypes.Structure):
    """``nvmlMemory_t``, in bytes."""

    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


def find_driver() -> Driver | None:
    """The driver as it is now; None where there is none, or it does not answer."""
    nvml = _initialized()
    if nvml is None:
        return None
    version, cuda, count = _text(), ctypes.c_int(), ctypes.c_uint()
    nvml.nvmlSystemGetDriverVersion(version, TEXT_BYTES)
    nvml.nvmlSystemGetCudaDriverVersion_v2(ctypes.byref(cuda))
    nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
    gpus = (_gpu(nvml, index) for index in range(count.value))
    newest = cuda.value // 1000, cuda.value % 1000 // 10
    return Driver(_decoded(version), newest, tuple(gpu for gpu in gpus if gpu is not None))


def only_gpu() -> Gpu | None:
    """The card of a machine that has one; None where there is none, or several to choose from."""
    driver = find_driver()
    return driver.gpus[0] if driver is not None and len(driver.gpus) == 1 else None


@cache
def _initialized() -> Any:
    """NVML, ready to be asked for as long as the process lives: to begin takes milliseconds."""
    nvml = _open_nvml()
    return nvml if nvml is not None and nvml.nvmlInit_v2() == 0 else None


def _open_nvml() -> Any:
    for name in LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def _gpu(nvml: Any, index: int) -> Gpu | None:
    device, name, memory = ctypes.c_void_p(), _text(), _Memory()
    if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) != 0:
        return None
    nvml.nvmlDeviceGetName(device, name, TEXT_BYTES)
    known = nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)) == 0
    return Gpu(_decoded(name), memory.free if known else None, memory.total if known else None)


def _text() -> Any:
    return ctypes.create_string_buffer(TEXT_BYTES)


def _decoded(text: Any) -> str:
    return str(text.value.decode("utf-8", "replace"))
