"""What work for a device raises where the device, a compiler or a library will not have it."""

from __future__ import annotations

from importlib.util import find_spec
from subprocess import SubprocessError


def _failures() -> tuple[type[Exception], ...]:
    """Triton's errors are no RuntimeError, nor are those of the C compiler that it calls."""
    usual = (RuntimeError, SubprocessError, OSError)
    if find_spec("triton") is None:
        return usual
    from triton.errors import TritonError

    return (*usual, TritonError)


FAILURES = _failures()
