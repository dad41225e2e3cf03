"""What was planned of a GPU's memory beside what is really taken, from the load to the unload."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from vivavoce.engines.qwen3.budget import (
    LIBRARIES_BYTES,
    MIB,
    WORK_BYTES,
    WORK_ROW_BYTES,
    Footprint,
    Room,
    rows_in,
)
from vivavoce.errors import SetupError
from vivavoce.runtime.cuda import Card
from vivavoce.runtime.device_errors import is_out_of_memory

log = logging.getLogger(__name__)


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
        rows = rows_in(needs, room, most, fixed=fixed)
        if budget_bytes:  # others rely on it
            card.limit(budget_bytes)
        return cls(card, room, needs, rows)

    def read(self, needs: Footprint, most: int, *, fixed: bool) -> MemoryPlan:
        """The weights are read, and decide. Raises SetupError as ``make`` does."""
        read = replace(self, needs=needs, rows=rows_in(needs, self.room, most, fixed=fixed))
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
