"""From options to rows on a device: the plan of its memory, the weights, the rows, their pace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vivavoce.engines.qwen3.config import Qwen3Config
from vivavoce.engines.qwen3.info import locate
from vivavoce.engines.qwen3.options import Qwen3Options, rows_of
from vivavoce.engines.qwen3.pace import Pace, pace_for
from vivavoce.runtime import cuda
from vivavoce.runtime.device_errors import NoDeviceMemory, is_out_of_memory, twice

if TYPE_CHECKING:
    from vivavoce.engines.qwen3.batch import Batch
    from vivavoce.engines.qwen3.device import Place
    from vivavoce.engines.qwen3.graphs import Capturing
    from vivavoce.engines.qwen3.memory import MemoryPlan
    from vivavoce.engines.qwen3.model import Model


@dataclass(slots=True)
class Loading:
    """What there is of an engine on its device, more and more of it while it is loaded.

    ``capturing`` replaces what the device itself captures with.
    """

    options: Qwen3Options
    capturing: Capturing | None = None
    plan: MemoryPlan | None = None
    model: Model | None = None
    batch: Batch | None = None

    def run(self) -> tuple[Model, Batch, Pace]:
        """Load all of it. What fails leaves what was loaded so far; see ``give_back``.

        Raises SetupError for rows that do not fit into the GPU's memory: before any of it is taken,
        or where it runs out all the same.
        """
        try:
            return self._run()
        except (RuntimeError, NoDeviceMemory) as error:
            scarce = isinstance(error, NoDeviceMemory) or is_out_of_memory(error)
            if self.plan is None or not scarce:
                raise
        raise self.plan.refusal()

    def _run(self) -> tuple[Model, Batch, Pace]:
        from vivavoce.engines.qwen3.batch import Batch
        from vivavoce.engines.qwen3.device import choose_place
        from vivavoce.engines.qwen3.graphs import capturing_on
        from vivavoce.engines.qwen3.model import Model

        options = self.options
        place = choose_place(options)
        folder, fixed = locate(options), options.capacity > 0
        rows = rows_of(options, place.device.type)
        self.plan = _planned(options, place, rows)
        self.model = model = Model.load(folder, place)
        if self.plan is not None:
            from vivavoce.engines.qwen3.memory import footprint

            self.plan = self.plan.read(footprint(model, options.positions), rows, fixed=fixed)
            rows = self.plan.rows
        capturing = self.capturing or capturing_on(place, options)
        self.batch = Batch(model, rows, options.positions, capturing)
        costs = twice(self.batch.costs, self._make_room) if measures(place) else None
        pace = pace_for(costs, rows, fixed=fixed)
        if self.plan is not None:
            self.plan.hold()
        return model, self.batch, pace

    def _make_room(self) -> None:
        assert self.model is not None
        cuda.empty_cache(self.model.place.device)

    def give_back(self) -> None:
        """Free what was loaded; nothing may hold any of it any more."""
        if self.batch is not None:
            self.batch.close()
        model, plan = self.model, self.plan
        self.model = self.batch = self.plan = None
        if model is not None:
            from vivavoce.engines.qwen3.model import give_back

            device = model.place.device
            del model
            give_back(device)
        if plan is not None:
            plan.give_back()


def measures(place: Place) -> bool:
    """Whether it is worth while to measure what stages take: a CPU has the rows it is told."""
    return place.device.type == "cuda"


def _planned(options: Qwen3Options, place: Place, rows: int) -> MemoryPlan | None:
    """From the configuration alone, before any weight is read; None on a CPU."""
    from vivavoce.engines.qwen3 import device

    card = device.card_on(place)
    if card is None:
        return None
    from vivavoce.engines.qwen3.memory import MIB, MemoryPlan, planned_footprint

    needs = planned_footprint(Qwen3Config.load(locate(options)), place, options.positions)
    budget_bytes = options.gpu_memory_budget_mb * MIB
    return MemoryPlan.make(card, budget_bytes, needs, rows, fixed=options.capacity > 0)
