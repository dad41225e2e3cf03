"""A GPU's memory: how many rows fit, the sum that says so, and what is really taken.

Everything a call needs is taken before the first one: weights, rows, what is kept of voices, and
room for the rest. What a model takes is known from its configuration, before any of it is read. At
the end of a load the plan is compared with what was really taken, and the rest of it is held.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import torch

from vivavoce.engines.qwen3.codec.decoder import CodecDecoder
from vivavoce.engines.qwen3.codec.encoder import CodecEncoder
from vivavoce.engines.qwen3.config import Qwen3Config, TalkerConfig
from vivavoce.engines.qwen3.device import Place
from vivavoce.engines.qwen3.model import Model, Quantizing, weights_bytes
from vivavoce.engines.qwen3.rows import RowState
from vivavoce.engines.qwen3.speaker import SpeakerEncoder
from vivavoce.engines.qwen3.talker import Talker
from vivavoce.errors import SetupError
from vivavoce.runtime.cuda import Card
from vivavoce.runtime.device_errors import is_out_of_memory
from vivavoce.runtime.graphs.api import tensors_in
from vivavoce.runtime.kernels.dispatch import Path, chosen

log = logging.getLogger(__name__)

MIB = 1024 * 1024

SMALL_CARD_BYTES = 12_000_000_000
SMALL_CARD_ROWS = 4
"""A card (or a budget) smaller than that is shared or slow: it gets so many rows unless more are
asked for."""

FREE_SHARE = 0.1
"""Of the card, left free for others where no budget says how much may be taken."""

KEPT_PROMPTS_BYTES = 64 * MIB
"""Beginnings of prompts that stay on the device."""

KEPT_VOICES_BYTES = 64 * MIB
"""Codec states of cloned voices that stay on the device."""

PIECE_WORK_BYTES = 24 * MIB
"""What is alive at once while a piece of a prompt is read, counted at true size with attention by
its plain way. Once in the graphs' memory, once beside it."""

MEMORIES = 5
"""PyTorch keeps memory apart for each: the streams of frames and of sound, the pools of what is
captured on either, and what makes voices."""

WORKSPACE_BYTES = 32 * MIB
"""What cuBLAS works in, for each of ``MEMORIES``: PyTorch's size on Hopper, a quarter elsewhere."""

SEGMENT_BYTES = 22 * MIB
"""What PyTorch's allocator may have taken and not yet given out, for each of ``MEMORIES``: 20 MiB
for larger blocks, 2 for small ones."""

LIBRARIES_BYTES = 320 * MIB
"""Beside PyTorch's allocator: code of libraries and kernels, and graphs in the driver. Only a card
tells how much that is: it is assumed here, and the log of each load says what it was."""

WORK_BYTES = 2 * PIECE_WORK_BYTES + MEMORIES * (WORKSPACE_BYTES + SEGMENT_BYTES) + LIBRARIES_BYTES
"""Whatever rows there are."""

WORK_ROW_BYTES = 48 * MIB
"""What is alive at once for each row, counted at true size: 45 MiB of the codec at its longest
chunk, 1 of a frame, and what sound is sent through."""

CLONE_WORK_BYTES = 272 * MIB
"""What is alive at once while a voice is made of the longest recording, counted at true size: 265
MiB with the speaker encoder; the codec's needs less."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes: of all weights, and of one row of keys, values, codec state and buffers.

    ``encoders``: of those that hear recordings, which are read at the first clone; 0 of a model
    that does not clone.
    """

    weights: int
    row: int
    encoders: int = 0

    @property
    def fixed(self) -> int:
        """What is there without a row."""
        return self.weights + self.cloning + KEPT_PROMPTS_BYTES + KEPT_VOICES_BYTES + WORK_BYTES

    @property
    def cloning(self) -> int:
        """Of that, what making a voice of a recording needs, one at a time."""
        return self.encoders + CLONE_WORK_BYTES if self.encoders else 0

    def loaded(self, rows: int) -> int:
        """What weights and ``rows`` rows hold, without anything that is done with them."""
        return self.weights + rows * self.row

    def total(self, rows: int) -> int:
        """With ``rows`` of them."""
        return self.fixed + rows * (self.row + WORK_ROW_BYTES)

    def sum(self, rows: int) -> str:
        """In words, in MB of 1024 * 1024 bytes."""
        parts = (
            f"weights {_mb(self.weights)}",
            *([f"cloning {_mb(self.cloning)}"] if self.cloning else []),
            f"voices and prompts kept {_mb(KEPT_PROMPTS_BYTES + KEPT_VOICES_BYTES)}",
            f"graphs and work {_mb(WORK_BYTES)}",
            f"{rows} x {_mb(self.row + WORK_ROW_BYTES)} for rows",
        )
        return f"{' + '.join(parts)} = {_mb(self.total(rows))} MB"


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes of a card before a load: all of it, what is free, and the budget (0: none is set)."""

    total: int
    free: int
    budget: int = 0

    @property
    def most(self) -> int:
        """What may be taken."""
        return min(self.free, self.budget) if self.budget else self.free

    @property
    def usual(self) -> int:
        """What is taken if nobody asks for more: nothing is taken off a budget."""
        return self.most if self.budget else self.free - round(self.total * FREE_SHARE)

    @property
    def small(self) -> bool:
        """Whether it is shared or slow."""
        return min(self.total, self.budget or self.total) < SMALL_CARD_BYTES


def rows_that_fit(needs: Footprint, room: Room, most: int, *, fixed: bool) -> int:
    """How many rows there are: at most ``most``, exactly so many where that is ``fixed``.

    Rows that were asked for, and the one that there has to be, may take of the tenth of a card that
    is else left free. Raises SetupError, with the sum, where they do not fit.
    """
    most = min(most, SMALL_CARD_ROWS) if room.small and not fixed else most
    least = most if fixed else 1
    if needs.total(least) <= room.usual:
        return rows_within(needs, room.usual, most, fixed=fixed)
    return rows_within(needs, room.most, least, fixed=True)


def rows_within(footprint: Footprint, budget_bytes: int, most: int, *, fixed: bool) -> int:
    """How many rows, at most ``most``, fit; exactly so many where that is ``fixed``.

    Raises SetupError, with the sum, where one row (or the fixed number) does not fit.
    """
    room = budget_bytes - footprint.fixed
    rows = min(most, room // (footprint.row + WORK_ROW_BYTES))
    least = most if fixed else 1
    if rows >= least:
        return rows
    raise SetupError(
        f"{footprint.sum(least)}, more than the {_mb(budget_bytes)} MB there are. "
        "Fewer rows (capacity), fewer positions, smaller weights (QUANTIZE=int8) or a smaller "
        "model need less.",
        param="gpu_memory_budget_mb",
    )


def _mb(size_bytes: int) -> int:
    return -(-size_bytes // MIB)


def planned_footprint(config: Qwen3Config, place: Place, positions: int) -> Footprint:
    """Of a model on a GPU; ``footprint`` says the same of one that is loaded."""
    with torch.device("meta"):
        talker, codec = Talker(config.talker), CodecDecoder(config.codec.decoder)
    quantizing = Quantizing(place.precision, place.dtype, place.device)
    like = talker.codec_head.weight.to(place.dtype)
    row = _row_bytes(config.talker, positions, like) + codec.row_bytes()
    weights = weights_bytes(talker, quantizing) + tables_bytes(config.talker, place)
    return Footprint(weights + _module_bytes(codec), row, encoders_bytes(config))


def footprint(model: Model, positions: int) -> Footprint:
    """What a loaded model takes, and a row of a ``Batch`` of it."""
    config, like = model.config.talker, model.talker.codec_head.weight.to("meta")
    row = _row_bytes(config, positions, like) + model.codec.init_state(1).row_bytes
    weights = model.weights_bytes(encoders=False) + tables_bytes(config, model.place)
    return Footprint(weights, row, encoders_bytes(model.config))


def encoders_bytes(config: Qwen3Config) -> int:
    """Of what a voice is made with from a recording, in float32; 0 where none can be."""
    if config.speaker_encoder is None:
        return 0
    with torch.device("meta"):
        parts = CodecEncoder(config.codec), SpeakerEncoder(config.speaker_encoder)
    return sum(map(_module_bytes, parts))


def tables_bytes(config: TalkerConfig, place: Place) -> int:
    """Of the tables that kernels read instead of projecting each code (``fused``)."""
    small = config.code_predictor
    narrow = small.hidden_size == config.hidden_size
    if narrow or chosen(place.device, place.dtype).path is not Path.TRITON:
        return 0
    tables = (small.num_code_groups - 1) * small.vocab_size
    return tables * small.hidden_size * place.dtype.itemsize


def state_bytes(state: object) -> int:
    """Of all tensors in a dataclass."""
    return sum(tensor.nbytes for tensor in tensors_in(state))


def _row_bytes(config: TalkerConfig, positions: int, like: torch.Tensor) -> int:
    one, two = (state_bytes(RowState.build(config, rows, positions, like)) for rows in (1, 2))
    return two - one


def _module_bytes(part: torch.nn.Module) -> int:
    return sum(each.nbytes for each in (*part.parameters(), *part.buffers()))


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """``rows`` rows of what ``needs`` says, on a card that had ``room``."""

    card: Card
    room: Room
    needs: Footprint
    rows: int

    @classmethod
    def make(
        cls, card: Card, budget_bytes: int, needs: Footprint, most: int, *, fixed: bool
    ) -> MemoryPlan:
        """Before anything is loaded. Raises SetupError, with the sum, for rows that do not fit."""
        now = card.memory()
        room = Room(now.total, now.free, budget_bytes)
        rows = rows_that_fit(needs, room, most, fixed=fixed)
        if budget_bytes:  # others rely on it
            card.limit(budget_bytes)
        return cls(card, room, needs, rows)

    def read(self, needs: Footprint, most: int, *, fixed: bool) -> MemoryPlan:
        """The weights are read, and decide. Raises SetupError as ``make`` does."""
        read = replace(self, needs=needs, rows=rows_that_fit(needs, self.room, most, fixed=fixed))
        if read.planned_bytes > read.room.usual:
            left = (self.room.free - read.planned_bytes) // MIB
            log.warning("Of the GPU's memory only %d MB are left free for others.", left)
        return read

    @property
    def planned_bytes(self) -> int:
        """Of the whole sum."""
        return self.needs.total(self.rows)

    def hold(self) -> None:
        """At the end of a load: log what was taken, and take the rest of the plan, for calls.

        What the driver and libraries took beside PyTorch's allocator is assumed in the plan, and
        others may take memory as well: so much may be missing in the end, with a warning. Raises
        SetupError where others have taken more than that.
        """
        now = self.card.memory()
        taken, rest = self.room.free - now.free, self.planned_bytes - now.reserved
        log.info(
            "GPU memory: %s planned; %d MB taken, of which PyTorch holds %d; %d MB more are kept "
            "for calls",
            *(self.needs.sum(self.rows), taken // MIB, now.reserved // MIB, max(rest, 0) // MIB),
        )
        self._compare(now.reserved, taken - now.reserved)
        if rest < 0:
            log.warning(
                "The load took %d MB more of the GPU's memory than was planned.", -rest // MIB
            )
        elif not self._held(rest):
            if not self._held(max(0, rest - LIBRARIES_BYTES)):
                raise self.refusal()
            log.warning(
                "Of %d MB that are planned for calls up to %d are not there: a call may fail.",
                *(rest // MIB, min(rest, LIBRARIES_BYTES) // MIB),
            )

    def _compare(self, reserved: int, beside: int) -> None:
        """Log what the warm-up took for work, and what was taken beside PyTorch, with the plan."""
        worked = max(0, reserved - self.needs.loaded(self.rows))
        planned = WORK_BYTES - LIBRARIES_BYTES + self.rows * WORK_ROW_BYTES
        told = (worked // MIB, planned // MIB, max(0, beside) // MIB, LIBRARIES_BYTES // MIB)
        log.info(
            "GPU memory, taken of planned: %d of %d MB for graphs and work, %d of %d MB beside "
            "PyTorch, other programs included",
            *told,
        )
        if beside > LIBRARIES_BYTES:
            log.warning(
                "%d MB of the GPU's memory were taken beside PyTorch while the model was loaded, "
                "more than the %d planned: by libraries, or by another program.",
                *told[2:],
            )

    def _held(self, size_bytes: int) -> bool:
        try:
            self.card.hold(size_bytes)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return False
        return True

    def refusal(self) -> SetupError:
        """Why a load that was planned to fit did not."""
        free = self.card.memory().free
        return SetupError(
            f"The GPU's memory ran out while the model was loaded. Planned: "
            f"{self.needs.sum(self.rows)}; {self.room.free // MIB} MB were free before, and "
            f"{free // MIB} MB are now. Either another program took some meanwhile, or the plan is "
            "too small: a smaller gpu_memory_budget_mb, fewer rows (capacity) or a smaller model "
            "leave more.",
            param="gpu_memory_budget_mb",
        )

    def give_back(self) -> None:
        """After everything was freed: log what stays."""
        self.card.limit(None)
        now = self.card.memory()
        stays = max(0, self.room.free - now.free)
        log.info(
            "GPU memory: the model is unloaded, %d MB are free; beside CUDA's own context %d MB "
            "stay with this process, of which PyTorch holds %d",
            *(now.free // MIB, stays // MIB, now.reserved // MIB),
        )
