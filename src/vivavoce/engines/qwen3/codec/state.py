"""What a stream of the codec decoder carries from one chunk to the next, for a batch of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vivavoce.errors import ModelFileError

POSITIONS = "positions"
INVALID = "invalid"


@dataclass(frozen=True)
class DecoderState:
    """Fixed tensors, one row a stream; ``decode`` updates them in place.

    ``positions`` [B] int64 counts the frames of each row. ``invalid`` [B] bool becomes True, and
    stays so until the row is reset, when a row was given a code outside its codebook.
    ``carried`` holds, by layer, keys and values [B, heads, slots, head_dim] as a ring over the
    latest frames, the last inputs of every convolution and the overlaps of the transposed ones.
    Zeros are the beginning of a stream.
    """

    positions: Tensor
    invalid: Tensor
    carried: Mapping[str, Tensor]
    max_frames: int
    """The most frames of one pass; longer chunks are decoded in several."""

    @property
    def batch(self) -> int:
        """How many rows."""
        return self.positions.shape[0]

    @property
    def row_bytes(self) -> int:
        """Memory of one row."""
        return sum(t.nbytes for t in self.tensors().values()) // self.batch

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by name, sharing memory: what a saved voice stores."""
        return {POSITIONS: self.positions, INVALID: self.invalid, **self.carried}

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> DecoderState:
        """A state of this layout with other rows: the inverse of ``tensors``.

        They are converted to this state's device and dtype, and share memory where nothing needs
        converting. Raises ModelFileError where a name or a shape differs.
        """
        own = self.tensors()
        if set(own) != set(tensors):
            raise ModelFileError("A saved codec state does not fit this codec: other layers.")
        batch = tensors[POSITIONS].shape[0] if tensors[POSITIONS].ndim == 1 else -1
        for name, tensor in own.items():
            if tensors[name].shape != (batch, *tensor.shape[1:]):
                raise ModelFileError(
                    f"A saved codec state does not fit this codec: {name} is "
                    f"{list(tensors[name].shape)}, a row here {list(tensor.shape[1:])}."
                )
        return self._of({name: tensors[name].to(tensor) for name, tensor in own.items()})

    def reset(self, row: int | None = None) -> None:
        """Begin a new stream in one row, or in all."""
        for tensor in self.tensors().values():
            (tensor if row is None else tensor[row]).zero_()

    def copy_row(self, row: int, source: DecoderState, source_row: int = 0) -> None:
        """Continue in ``row`` what ``source_row`` of another state of the same layout holds."""
        theirs = source.tensors()
        for name, tensor in self.tensors().items():
            tensor[row].copy_(theirs[name][source_row])

    def gather(self, rows: Sequence[int] | Tensor) -> DecoderState:
        """A new state with copies of ``rows``, in that order; a row may be taken twice."""
        index = torch.as_tensor(rows, dtype=torch.int64, device=self.positions.device)
        return self._of({name: t.index_select(0, index) for name, t in self.tensors().items()})

    def view(self, start: int, stop: int) -> DecoderState:
        """Some rows, sharing memory."""
        return self._of({name: t[start:stop] for name, t in self.tensors().items()})

    def clone(self) -> DecoderState:
        """A copy that shares nothing."""
        return self._of({name: t.clone() for name, t in self.tensors().items()})

    def _of(self, tensors: Mapping[str, Tensor]) -> DecoderState:
        carried = {name: tensors[name] for name in self.carried}
        return DecoderState(tensors[POSITIONS], tensors[INVALID], carried, self.max_frames)
