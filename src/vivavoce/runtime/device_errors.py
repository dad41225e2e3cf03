"""What an error of a GPU means: memory that will be free again, or a device lost for this process.

An out-of-memory is over once memory is free: it fails what was being done, and nothing else. After
any other error of a device every further call of the process has to be expected to fail alike
(CUDA Runtime API, "Error types": the process must be terminated and relaunched). Nothing here
imports PyTorch: errors are known by their classes' names and by their words.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from vivavoce.errors import EngineError

log = logging.getLogger(__name__)

Made = TypeVar("Made")

DEVICE_WORDS = ("CUDA error", "CUDA failure", "HIP error", "HIP failure", "Triton Error [")
"""How errors of a GPU begin in PyTorch and Triton, and what stands in those of ONNX Runtime."""

ONNX_RUNTIME = "[ONNXRuntimeError]"
"""How those begin."""

MEMORY_WORDS = ("out of memory", "ALLOC_FAILED", "ALLOCATION_FAILED")
"""Of the driver, of cuBLAS and of cuDNN."""

LIBRARIES = ("CUDA", "HIP", "cuBLAS", "CUBLAS", "cuDNN", "CUDNN")

CAPTURE_WORDS = "captur"
"""In every error about what may not be done while a graph is captured: it ends that capture."""

NO_MEMORY = "The GPU has no memory left for this call; try again."
LOST = "The engine's device fails whatever it is asked."


class NoDeviceMemory(EngineError):
    """A device had no memory for one call, after its cache was emptied, too."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a GPU had no memory for something."""
    text = str(error)
    if type(error).__name__ == "OutOfMemoryError":
        return True
    known = type(error).__name__ == "AcceleratorError" or any(name in text for name in LIBRARIES)
    return known and any(words in text for words in MEMORY_WORDS)


def is_lost(error: BaseException) -> bool:
    """Whether an error is one of a GPU after which only a new process helps.

    Words of a caller may stand in other errors, and must not end the process.
    """
    text = str(error)
    known = type(error).__name__ == "AcceleratorError" or (
        not isinstance(error, ValueError | TypeError | LookupError)
        and (
            text.startswith(DEVICE_WORDS)
            or (text.startswith(ONNX_RUNTIME) and any(words in text for words in DEVICE_WORDS))
        )
    )
    return known and not is_out_of_memory(error) and CAPTURE_WORDS not in text


def twice(work: Callable[[], Made], make_room: Callable[[], None]) -> Made:
    """Do ``work``; where a GPU has no memory for it, ``make_room`` and do it once more.

    ``work`` must do no harm where it is done a second time after it failed. Raises NoDeviceMemory
    where that fails as well; every other error goes through.
    """
    for _ in range(2):
        try:
            return work()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            log.warning("no memory on the device: %s", type(error).__name__)
            log.debug("in full:", exc_info=error)
        # The error is gone by now, and with it the frames that held what it had made so far.
        make_room()
    raise NoDeviceMemory(NO_MEMORY)
