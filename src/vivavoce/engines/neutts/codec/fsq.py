"""Finite scalar quantization (Mentzer et al., ICLR 2024): a code is eight digits of base 4.

Codes of ``vector-quantize-pytorch``'s ``ResidualFSQ`` with eight levels of 4 and one quantizer,
which bounds its input twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vivavoce.engines.neutts.codec.codec import CODEBOOK_SIZE, Codes
from vivavoce.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVELS = 4
DIGITS = 8
BASIS = np.array([LEVELS**i for i in range(DIGITS)], np.int32)
"""What each digit counts, the lowest first."""

_HALF = LEVELS // 2
_BOUND_MARGIN = 1e-3
_OFFSET = 0.5


def checked_codes(codes: Codes) -> Codes:
    """Codes as (T,) int32, T >= 1. Raises InputError for others."""
    array = np.asarray(codes)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"Codes are (T,) integers, not {array.shape} of {array.dtype}.")
    if not len(array):
        raise InputError("There are no codes to decode.")
    if array.min() < 0 or array.max() >= CODEBOOK_SIZE:
        raise InputError(f"Codes are 0 to {CODEBOOK_SIZE - 1}, not {array.min()} to {array.max()}.")
    return array.astype(np.int32, copy=False)


def code_vectors(codes: Codes) -> NDArray[np.float32]:
    """Codes (T,) to what they stand for, (T, 8) of -1, -0.5, 0 and 0.5."""
    digits = codes[:, None] // BASIS % LEVELS
    return ((digits - _HALF) / _HALF).astype(np.float32)


def nearest_codes(vectors: NDArray[np.float32]) -> Codes:
    """Projected encoder output (T, 8), unbounded, to codes (T,)."""
    digits = np.rint(_bounded(_bounded(vectors.astype(np.float32)))) + _HALF
    codes: Codes = (digits.astype(np.int32) * BASIS).sum(-1, dtype=np.int32)
    return codes


def _bounded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squeezed to (-2, 1), so that rounding gives -2 to 1; in float32, as it was trained."""
    half = np.float32((LEVELS - 1) * (1 + _BOUND_MARGIN) / 2)
    shift = np.arctanh(np.float32(_OFFSET) / half)
    return np.tanh(values + shift) * half - np.float32(_OFFSET)
