"""How PyTorch's threads behave on a machine that others use, too.

A product of a frame takes microseconds, and between two of them PyTorch's threads (OpenMP's) spin:
whoever waits for a thread that another process keeps from running burns a core meanwhile. With as
many threads as cores, a frame of Qwen3-TTS takes ten times the processor time on a busy machine
(``vivavoce bench recipe qwen3_threads``).
"""

from __future__ import annotations

import os
import sys

from vivavoce.runtime.machine import usable_cores

WAIT_POLICY = "OMP_WAIT_POLICY"


def wait_without_spinning() -> bool:
    """Have OpenMP's threads sleep while they wait, unless the environment says how they are to.

    OpenMP reads it once, when its library is loaded: call this before PyTorch is imported. Says
    whether that was in time.
    """
    if "torch" in sys.modules:
        return False
    os.environ.setdefault(WAIT_POLICY, "passive")
    return True


def half_the_cores() -> int:
    """Threads for a model that speaks live: what is left is for everybody else, the event loop too.

    With all cores taken, one other busy process makes each product wait for its slowest thread.
    """
    return max(1, usable_cores() // 2)
