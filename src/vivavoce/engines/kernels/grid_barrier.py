# mypy: allow-untyped-decorators
"""A barrier between all programs of one launch, which must all run at once (a cooperative one).

Programs arrive when what they wrote is out, and may do what needs nothing of the others before they
wait. The count only grows while a launch runs, so no program can miss a phase.
"""

from __future__ import annotations

import triton
import triton.language as tl

from vivavoce.engines.kernels.device_math import INTERPRETED

_INTERPRETED = tl.constexpr(INTERPRETED)

COUNTERS = 2
"""int32 numbers of a barrier, zeros before its first launch: arrivals, and programs that left."""


@triton.jit
def arrive(barrier: tl.tensor) -> None:
    """All that this program wrote is out before it counts."""
    tl.debug_barrier()
    tl.atomic_add(barrier, 1, sem="release")


@triton.jit
def wait(barrier: tl.tensor, arrivals: tl.tensor) -> None:
    """Until so many have arrived; what they wrote can be read from then on."""
    while _arrived(barrier) < arrivals:
        pass


@triton.jit
def leave(barrier: tl.tensor) -> None:
    """Nothing will be waited for any more; the last to leave makes it ready for the next launch."""
    tl.debug_barrier()
    if tl.atomic_add(barrier + 1, 1) == tl.num_programs(0) - 1:
        tl.store(barrier, 0)
        tl.store(barrier + 1, 0)


@triton.jit
def _arrived(barrier: tl.tensor) -> tl.tensor:
    """Every thread acquires by itself: PTX ISA, memory consistency model (causality order)."""
    if _INTERPRETED:
        return tl.load(barrier)
    return tl.inline_asm_elementwise(
        "ld.acquire.gpu.global.s32 $0, [$1];",
        "=r,l",
        [barrier.to(tl.int64)],
        dtype=tl.int32,
        is_pure=False,
        pack=1,
    )
