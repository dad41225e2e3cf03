# mypy: allow-untyped-decorators
"""Arithmetic shared by the Triton kernels: rounding where the reference rounds, exact logarithms.

Importing this needs Triton. With TRITON_INTERPRET=1 set before the first import of Triton, all
kernels run on the CPU in its interpreter.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra import libdevice

INTERPRETED = bool(triton.knobs.runtime.interpret)
_INTERPRETED = tl.constexpr(INTERPRETED)


@triton.jit
def narrow(x: tl.tensor, like: tl.constexpr) -> tl.tensor:
    """float32 rounded to the nearest of ``like``, ties to even. (The interpreter cuts bits off.)"""
    if _INTERPRETED and like == tl.bfloat16:
        bits = x.to(tl.uint32, bitcast=True)
        bits += 0x7FFF + ((bits >> 16) & 1)
        x = (bits & 0xFFFF0000).to(tl.float32, bitcast=True)
    return x.to(like)


@triton.jit
def operand(x: tl.tensor, like: tl.constexpr) -> tl.tensor:
    """A tensor core's operand: ``x`` in ``like``, exactly. (The interpreter multiplies float32.)"""
    if _INTERPRETED:
        return x.to(tl.float32)
    return x.to(like)


@triton.jit
def times(a: tl.tensor, b: tl.tensor, like: tl.constexpr) -> tl.tensor:
    """``a * b`` rounded once to ``like``: exact products of narrow numbers, then one rounding."""
    return narrow(a.to(tl.float32) * b.to(tl.float32), like)


@triton.jit
def natural_log(x: tl.tensor) -> tl.tensor:
    """To a unit in the last place: the fast one is too coarse near 1, where noise is largest."""
    if _INTERPRETED:
        return tl.log(x)
    return libdevice.log(x)


@triton.jit
def exponential(x: tl.tensor) -> tl.tensor:
    """To a unit or two in the last place."""
    if _INTERPRETED:
        return tl.exp(x)
    return libdevice.exp(x)


@triton.jit
def silu(gate: tl.tensor, like: tl.constexpr) -> tl.tensor:
    """``x / (1 + exp(-x))``, rounded to ``like``."""
    wide = gate.to(tl.float32)
    return narrow(wide / (1.0 + tl.exp(-wide)), like)
