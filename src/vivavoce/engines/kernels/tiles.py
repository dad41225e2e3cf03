"""How a projection is cut into programs. Chosen by arithmetic, to be corrected by measurement."""

from __future__ import annotations

from dataclasses import dataclass

MOST_ROWS = 32
_VECTOR_ROWS = 4  # over it, tensor cores need fewer instructions than sums of products
_TILE = 8192  # weights that one program of 4 warps has in flight


@dataclass(frozen=True, slots=True)
class Tile:
    """Weights [block_n, block_k] a program holds at a time, ``parts`` of them side by side in K.

    ``dot``: by tensor cores, else by sums of products.
    """

    block_n: int
    block_k: int
    warps: int
    stages: int = 1
    parts: int = 1
    dot: bool = False


def choose_tile(rows: int, n: int, k: int, *, gated: bool = False) -> Tile:
    """The tile for ``rows`` of activations and a matrix [n, k] (twice as many rows if gated)."""
    if rows > _VECTOR_ROWS:
        return _dot_tile(n, gated)
    block_k = min(_power(k), 2048)
    block_n = max(2, min(8, _TILE // block_k) // (2 if gated else 1))
    return Tile(block_n, block_k, warps=4 if block_n * block_k <= _TILE // 2 or gated else 8)


def _dot_tile(n: int, gated: bool) -> Tile:
    block_n = 8 if n <= 1024 or gated else 16
    return Tile(block_n, block_k=64, warps=4, stages=4, parts=4, dot=True)


def _power(number: int) -> int:
    """The next power of two."""
    return 1 << (number - 1).bit_length()
