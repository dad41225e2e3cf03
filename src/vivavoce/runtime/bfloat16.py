"""bfloat16 without PyTorch: numpy has no such type, so that its bits are kept as uint16."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The bits of the nearest bfloat16 (ties to even) of finite values."""
    bits: NDArray[np.uint32] = values.view(np.uint32)
    rounded = bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))
    nearest: NDArray[np.uint16] = (rounded >> np.uint32(16)).astype(np.uint16)
    return nearest
