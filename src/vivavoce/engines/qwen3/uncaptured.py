"""Frames by kernels without captures, in the sizes that would be captured."""

from __future__ import annotations

import logging

from vivavoce.engines.qwen3.agreement import UNUSABLE, room_on
from vivavoce.engines.qwen3.frame import FrameIds, frame
from vivavoce.engines.qwen3.fused import FusedTalker
from vivavoce.engines.qwen3.rows import RowState
from vivavoce.engines.qwen3.talker import Talker
from vivavoce.runtime.device_errors import twice
from vivavoce.runtime.graphs.api import BATCH_BUCKETS, bucket_over, buckets_to

log = logging.getLogger(__name__)


class FrameSizes:
    """``frame`` for the first rows of a state: a kernel of other sizes is another kernel."""

    def __init__(self, talker: Talker, state: RowState, ids: FrameIds, fused: FusedTalker) -> None:
        self._talker, self._state, self._ids, self._fused = talker, state, ids, fused
        rows, self._positions = state.text.shape
        self._batches = buckets_to(rows, BATCH_BUCKETS)

    def warm(self) -> None:
        """One frame of each size; all rows must be idle."""
        for rows in self._batches:
            self.run(rows)

    def run(self, width: int, *, step: bool = True) -> None:
        """One frame, as ``frame.frame``; rows behind ``width`` must be idle."""
        rows = bucket_over(width, self._batches)
        assert rows is not None, "more than the state has"
        state = self._state.rows(0, rows)
        frame(self._talker, state, self._ids, self._positions, draw=self._fused, step=step)


def sized(talker: Talker, state: RowState, ids: FrameIds, fused: FusedTalker) -> FrameSizes | None:
    """Every size made once, so that no call waits for a compiler; None where one fails."""
    sizes = FrameSizes(talker, state, ids, fused)
    try:
        twice(sizes.warm, room_on(state))
    except UNUSABLE as error:
        log.warning("No kernels for frames: %s", error)
        return None
    return sizes
