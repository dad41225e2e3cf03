"""Whether Triton works on a device: a tiny kernel is compiled and launched before it is relied on.

Triton compiles C for each kernel when it first runs, which needs a compiler and Python's headers;
a machine that runs PyTorch often has neither. Without kernels weights in 8 bits are slower than
whole ones, so this has to be known before weights are read.
"""

from __future__ import annotations

import sysconfig
from functools import cache
from pathlib import Path
from subprocess import CalledProcessError, SubprocessError

import torch

SIZE = 16
COMPILER_HINT = "install gcc (on Debian and Ubuntu: apt install gcc python3-dev)"


@cache
def triton_fault(device: torch.device) -> str | None:
    """Why kernels cannot be used on ``device``, in words; None where they can.

    Asked once for each device; the first time it takes a second or two.
    """
    try:
        _import_kernels()
        works = _doubles(device)
    except _unusable() as error:
        return explain(error)
    return None if works else "Triton computes wrong numbers on this device"


def explain(error: Exception) -> str:
    """What is missing, as far as the error of a compiler or of a library tells."""
    if isinstance(error, ImportError):
        return f"{_triton_version()} lacks what the kernels need ({error})"
    if "C compiler" in str(error):
        return f"Triton finds no C compiler: {COMPILER_HINT}"
    if isinstance(error, CalledProcessError):
        if not (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file():
            return f"Triton finds no Python.h: {COMPILER_HINT}"
        return f"Triton's C compiler failed ({Path(str(error.cmd[0])).name})"
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{_triton_version()} failed: {type(error).__name__}{': ' * bool(first)}{first}"


def _unusable() -> tuple[type[Exception], ...]:
    """What a Triton that cannot be used raises, and the C compiler that it calls."""
    usual = (RuntimeError, SubprocessError, OSError, ImportError, AttributeError, AssertionError)
    wrong = (LookupError, TypeError, ValueError)
    try:
        from triton.errors import TritonError
    except ImportError:
        return (*usual, *wrong)
    return (*usual, *wrong, TritonError)


def _import_kernels() -> None:
    from vivavoce.runtime.kernels import (  # noqa: F401
        attention_triton,
        frame_ends_triton,
        linear_triton,
        sampler_triton,
    )


def _doubles(device: torch.device) -> bool:
    from vivavoce.runtime.kernels.trial_triton import double_kernel

    given = torch.arange(SIZE, dtype=torch.float32, device=device)
    made = torch.empty_like(given)
    double_kernel[(1,)](given, made, SIZE)
    return bool(torch.equal(made, given * 2))


def _triton_version() -> str:
    import triton

    return f"Triton {triton.__version__}"
