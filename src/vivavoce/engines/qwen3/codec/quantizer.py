"""Residual vector quantization: codes to latents by table, latents to codes by distance."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from vivavoce.errors import EngineError, VivavoceError

Codes: TypeAlias = Tensor | NDArray[np.integer]


def check_codes(
    codes: Codes, groups: int, size: int, *, error: type[VivavoceError] = EngineError
) -> Tensor:
    """Codes [..., groups] as int64, once it is known that the codec can take them.

    This is the boundary for codes that are on the host: sampled ones as they are read, and those
    of saved voices (``error``: what to raise then). Raises ``error`` for another shape, for what
    is not whole numbers, and for a code outside 0 … ``size`` - 1.
    """
    given = torch.as_tensor(codes)
    if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
        raise error(f"Codes are {given.dtype}, not whole numbers.")
    if given.ndim < 1 or given.shape[-1] != groups:
        raise error(f"Codes of shape {list(given.shape)} do not have {groups} a frame.")
    given = given.long()
    wrong = given[(given < 0) | (given >= size)]
    if wrong.numel():
        raise error(f"The code {int(wrong[0])} is outside the codebook of {size}.")
    return given


class CodeTables(nn.Module):
    """All codebooks, multiplied by their output projections: a frame is a sum of rows.

    ``table`` [groups * (size + 1), width]; the last row of each group is zero. ``fill`` must be
    called before use.
    """

    table: Tensor

    def __init__(self, groups: int, size: int, width: int) -> None:
        super().__init__()
        self.groups, self.size, self.width = groups, size, width
        empty = torch.zeros(groups * (size + 1), width)
        self.register_buffer("table", empty, persistent=False)

    def fill(self, books: Tensor, first: Tensor, rest: Tensor) -> None:
        """Make the table, in the dtype and on the device of ``books``.

        ``books`` [groups, size, dim]; ``first`` and ``rest`` [width, dim(, 1)] are the output
        projections of group 0 and of all others.
        """
        table = books.new_zeros(self.groups, self.size + 1, self.width)
        table[:1, :-1] = books[:1] @ first.reshape(self.width, -1).T.to(books)
        table[1:, :-1] = books[1:] @ rest.reshape(self.width, -1).T.to(books)
        self.table = table.flatten(0, 1)

    def forward(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Codes [B, T, groups] to latents [B, T, width], and which rows [B] had a wrong code.

        A code outside the codebook reads the zero row, never another code's or memory outside
        the table; the caller decides what becomes of the row.
        """
        wrong = (codes < 0) | (codes >= self.size)
        first = torch.arange(self.groups, device=codes.device) * (self.size + 1)
        index = torch.where(wrong, self.size, codes) + first
        return functional.embedding(index, self.table).sum(2), wrong.flatten(1).any(1)


def nearest_codes(latents: Tensor, books: Tensor) -> Tensor:
    """Residual codes [T, n] of ``latents`` [T, dim] in ``books`` [n, size, dim].

    Each book quantizes what the books before it left over, by Euclidean distance.
    """
    left, codes = latents, []
    for book in books:
        nearest = torch.cdist(left[None], book[None])[0].argmin(-1)
        codes.append(nearest)
        left = left - book[nearest]
    return torch.stack(codes, 1)
