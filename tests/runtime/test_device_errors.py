"""Errors of a GPU by what they mean, and work that is tried a second time where memory is short."""

from __future__ import annotations

import gc
import subprocess
import sys
from weakref import ref

import pytest

from vivavoce.runtime.device_errors import NoDeviceMemory, is_lost, is_out_of_memory, twice


class AcceleratorError(RuntimeError):
    """Named like that of PyTorch."""


class OutOfMemoryError(RuntimeError):
    """Named like that of PyTorch."""


LOST = (
    AcceleratorError("CUDA error: an illegal memory access was encountered"),
    AcceleratorError("CUDA error: unknown error"),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"),
    RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
    RuntimeError("[ONNXRuntimeError] : CUDA failure 700: an illegal memory access"),
)
MEMORY = (
    OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
    AcceleratorError("CUDA error: out of memory"),
    RuntimeError("Triton Error [CUDA]: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
)
NEITHER = (
    ValueError("no such thing"),
    MemoryError("a host's"),
    RuntimeError("the queue is out of memory"),
    RuntimeError("CUDA error: operation not permitted when stream is capturing"),
    AcceleratorError("CUDA error: operation failed due to a previous error during capture"),
)


@pytest.mark.parametrize(
    ("error", "lost", "memory"),
    [
        *((error, True, False) for error in LOST),
        *((error, False, True) for error in MEMORY),
        *((error, False, False) for error in NEITHER),
    ],
    ids=str,
)
def test_errors_of_a_device_are_known(error: Exception, lost: bool, memory: bool) -> None:
    assert (is_lost(error), is_out_of_memory(error)) == (lost, memory)


def test_what_works_is_done_once() -> None:
    assert twice(lambda: 7, lambda: pytest.fail("there was room")) == 7


class Matrix:
    """What work holds while it runs."""


@pytest.mark.parametrize("fails", [1, 2])
def test_work_is_tried_once_more_when_what_it_held_is_gone(fails: int) -> None:
    held: list[ref[Matrix]] = []
    tries = 0

    def work() -> str:
        nonlocal tries
        matrix = Matrix()
        held.append(ref(matrix))
        tries += 1
        if tries <= fails:
            raise OutOfMemoryError("CUDA out of memory.")
        return "done"

    def make_room() -> None:
        assert held[-1]() is None, "the error still holds what the work had made"

    gc.disable()
    try:
        if fails == 1:
            assert twice(work, make_room) == "done"
        else:
            with pytest.raises(NoDeviceMemory) as caught:
                twice(work, make_room)
            assert caught.value.__context__ is None and caught.value.retryable
    finally:
        gc.enable()
    assert tries == 2


@pytest.mark.parametrize("error", [*LOST, *NEITHER], ids=str)
def test_every_other_error_goes_through_at_once(error: Exception) -> None:
    tries = []

    def work() -> None:
        tries.append(1)
        raise error

    with pytest.raises(type(error)) as caught:
        twice(work, lambda: pytest.fail("no room is needed"))
    assert caught.value is error and tries == [1]


def test_knowing_errors_needs_no_torch() -> None:
    code = "import sys, vivavoce.runtime.device_errors; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("kind", [ValueError, KeyError, RuntimeError, OSError])
@pytest.mark.parametrize("said", ["CUDA error: hello", "HIP failure", "Triton Error [CUDA]: no"])
def test_no_callers_words_end_the_process(kind: type[Exception], said: str) -> None:
    assert not is_lost(kind(f"There are no phonemes for '{said}'."))


@pytest.mark.parametrize("kind", [ValueError, KeyError, TypeError])
def test_nor_do_they_where_they_are_all_that_an_error_says(kind: type[Exception]) -> None:
    assert not is_lost(kind("CUDA error: hello"))
