"""Which row's sound is decoded next, and how much of it, so that no playback starves.

The row whose playback runs dry first goes first. Its piece is as large as the schedule has it, so
that the same codes always give the same sound, whoever else speaks. An adaptive schedule takes less
where playback would run dry before the piece is whole, and more where there is time: small pieces
cost more, as around each the codec decodes the same codes again.

Pure: times in seconds of one clock, sizes in codes of 20 ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PATIENCE_S = 0.12
"""A caller whose playback would run dry sooner than this goes before one who waits for the first
sound: speech that breaks off is worse than speech that begins a little later."""

LEISURE_S = 1.0
"""Playback that goes on for longer than this can wait for larger pieces and for prefills."""

MARGIN_S = 0.04
"""What a piece should be there before it is needed."""

SMALLEST = 4
"""Less than this is not worth a window, however urgent."""

LEISURELY_FIRST = 25
PACE_MEMORY = 0.8


@dataclass(frozen=True, slots=True)
class RowState:
    """One row as the schedule sees it.

    ``dry_s`` is when its playback runs dry; ``available`` codes could be decoded now,
    ``scheduled`` is what the next piece should have; ``ended``: no more codes will come.
    """

    key: int
    dry_s: float
    available: int
    scheduled: int
    heard: bool
    ended: bool


@dataclass(frozen=True, slots=True)
class Piece:
    """Decode ``chunk`` codes of row ``key``."""

    key: int
    chunk: int


@dataclass(slots=True)
class Pace:
    """How long a code takes the backbone (for every row at once), the codec, and how long a token
    of a prompt takes beside them; as lately seen."""

    token_s: float = 0.01
    decoded_code_s: float = 0.001
    prompt_token_s: float = 0.0025

    def stepped(self, spent_s: float) -> None:
        """A step of the backbone without a prompt."""
        self.token_s += (spent_s - self.token_s) * (1 - PACE_MEMORY)

    def read(self, tokens: int, spent_s: float) -> None:
        """A step of the backbone with ``tokens`` of prompts, in which others spoke."""
        beside_s = max(0.0, spent_s - self.token_s)
        self.prompt_token_s += (beside_s / tokens - self.prompt_token_s) * (1 - PACE_MEMORY)

    def decoded(self, codes: int, spent_s: float) -> None:
        """A window of ``codes``."""
        self.decoded_code_s += (spent_s / codes - self.decoded_code_s) * (1 - PACE_MEMORY)


@dataclass(frozen=True, slots=True)
class WindowCosts:
    """``around`` codes are decoded with each piece; ``largest`` is the largest piece.

    Without ``adaptive`` every piece has its scheduled size.
    """

    around: int
    largest: int
    adaptive: bool = False


def dry_at(deadline_s: float, admitted_s: float) -> float:
    """When a row without sound yet should be served as if its playback ran dry."""
    return max(deadline_s, admitted_s + PATIENCE_S)


def next_piece(
    rows: Sequence[RowState], pace: Pace, costs: WindowCosts, now_s: float
) -> Piece | None:
    """The most urgent piece that is due; None where waiting is better."""
    due = [
        (row.dry_s, row.key, chunk)
        for row in rows
        if (chunk := due_chunk(row, pace, costs, now_s)) > 0
    ]
    if not due:
        return None
    _, key, chunk = min(due)
    return Piece(key, chunk)


def due_chunk(row: RowState, pace: Pace, costs: WindowCosts, now_s: float) -> int:
    """How many codes of this row to decode now; 0 for none yet."""
    if row.available <= 0:
        return 0
    if not costs.adaptive:
        return row.scheduled if row.ended or row.available >= row.scheduled else 0
    slack_s = row.dry_s - now_s
    leisurely = slack_s > LEISURE_S
    wanted = max(row.scheduled, LEISURELY_FIRST) if leisurely else row.scheduled
    if row.available >= wanted or row.ended:
        return min(row.available, costs.largest if leisurely else wanted)
    if not row.heard or row.available < SMALLEST:
        return 0
    wait_s = (wanted - row.available) * pace.token_s
    decode_s = (costs.around + wanted) * pace.decoded_code_s
    return row.available if slack_s < wait_s + decode_s + MARGIN_S else 0


def next_prefill(
    waiting: Sequence[tuple[float, int]], busy: bool, earliest_dry_s: float, now_s: float
) -> int | None:
    """Which waiting row's prompt is read next: ``waiting`` are (deadline, key).

    One prompt at a time, the most urgent first (``busy``: one is being read). A row that is
    needed only later lets those go on whose playback would run dry while it is read.
    """
    if busy or not waiting:
        return None
    deadline_s, key = min(waiting)
    leisurely = deadline_s > now_s + LEISURE_S
    return None if leisurely and earliest_dry_s < now_s + LEISURE_S / 2 else key
