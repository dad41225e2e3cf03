"""How a projection is cut into programs. Chosen by arithmetic, to be corrected by measurement."""

from __future__ import annotations

from dataclasses import dataclass

from vivavoce.runtime.nn.streaming import takes

_VECTOR_ROWS = 4  # over it, tensor cores need fewer instructions than sums of products
_WARP_BYTES = 512  # what one load of a whole warp brings, at 16 bytes a thread
_WARPS = 4
_STEP = 2048  # columns at once
_LARGE = 16384  # weights that a program of 4 warps has at once: 128 in a thread
_LONG = 4096  # over so many columns, half of it: with four rows' sums, more would spill


@dataclass(frozen=True, slots=True)
class Tile:
    """Weights [parts, block_n, block_k] that a program takes at a time, parts beside each other.

    ``dot``: by tensor cores, else by sums of products.
    """

    block_n: int
    block_k: int
    warps: int
    stages: int = 1
    parts: int = 1
    dot: bool = False


def choose_tile(rows: int, n: int, k: int, itemsize: int, *, gated: bool = False) -> Tile:
    """The tile for ``rows`` of activations and a matrix [n, k] (twice as many rows if gated).

    ``itemsize``: bytes of one weight.
    """
    if rows > _VECTOR_ROWS:
        return _dot_tile(rows, n, gated=gated, narrow=itemsize == 1 or k <= 1024)
    block_k = min(_WARP_BYTES // itemsize, _power(k))
    step = max(block_k, min(_STEP, k & -k if k % 1024 == 0 else _power(k)))
    # Not by rows: how a row is summed must not depend on how many there are.
    most = _LARGE // (2 if gated or k > _LONG else 1)
    block_n = min(4 if n <= 1024 else 16, max(_WARPS, most // step))
    return Tile(block_n, block_k, _WARPS, parts=step // block_k)


def variant(rows: int, *, quantized: bool) -> int:
    """The same number for as many rows as run in the same kernel, but for lanes it leaves unused.

    0 where no kernel takes them.
    """
    if not takes(rows, quantized=quantized):
        return 0
    return rows if rows <= _VECTOR_ROWS else max(16, _power(rows))


def _dot_tile(rows: int, n: int, *, gated: bool, narrow: bool) -> Tile:
    """``narrow``: of one byte a weight, or of few columns."""
    block_n = 8 if n <= 1024 or gated else 16
    if rows > 32:
        parts, block_n = (1, 16) if gated else (2, block_n)
        return Tile(block_n, block_k=64, warps=8, stages=3, parts=parts, dot=True)
    if rows > 16:
        return Tile(block_n, block_k=64, warps=4, stages=3, parts=2, dot=True)
    if not narrow:
        return Tile(block_n, block_k=64, warps=4, stages=5, parts=2, dot=True)
    return Tile(block_n, block_k=64, warps=4, stages=4, parts=4, dot=True)


def _power(number: int) -> int:
    """The next power of two."""
    return 1 << (number - 1).bit_length()
