"""What this process has of its machine, asked in a way that every system answers.

``os.sched_getaffinity``, ``resource`` and ``/proc`` are Linux's (macOS has the second alone,
Windows none), so nothing else in vivavoce calls the first two for what is told here.
"""

from __future__ import annotations

import os
import sys


def usable_cores() -> int:
    """Cores this process may use: those it is bound to where the system tells, else all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def peak_resident_bytes() -> int | None:
    """The most memory this process has had resident; None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB
