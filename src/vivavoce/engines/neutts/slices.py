"""How much of a new row's prompt is read in a step while other rows speak.

Large slices let the new row begin sooner, and make all others wait longer for their next token. So
a slice is as large as the sound that they have in hand allows: the smallest one is never left where
somebody's playback could run dry by it.

Pure: times in seconds of one clock, sizes in tokens (a code is a token of 20 ms).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from vivavoce.engines.neutts.backbone import PREFILL_SLICE
from vivavoce.engines.neutts.codec.stream import CODES_PER_S, Schedule
from vivavoce.engines.neutts.schedule import Pace

CODE_S = 1 / CODES_PER_S
SMALLEST_SLICE = 16
SLICES = (PREFILL_SLICE, 96, 64, 48, 32, 24)
"""What is tried, before the smallest."""

UNHEARD_SLICE = 32
"""Where those who speak are not heard yet, so that nothing can break off. Larger ones let the last
of several begin sooner and the first later: computed for four at once, the mean grows by 1 % with
32 and by 11 % with 64, while the last one's time falls by 5 and 19 %."""


SPARE_S = 0.12
"""What should be left for windows of the new row, and for times that are not what they were."""


@dataclass(frozen=True, slots=True)
class Demand:
    """A piece that a listener needs: ``tokens`` are still to be made for it, its window has
    ``window`` codes, and its playback runs dry at ``dry_s``."""

    tokens: int
    window: int
    dry_s: float


@dataclass(frozen=True, slots=True)
class Work:
    """What a step does: ``left`` prompt tokens are to be read in all, ``rows`` speak."""

    left: int
    rows: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a listener is: ``pending`` codes were made and not given out as sound, ``pieces`` were,
    and with those its playback runs dry at ``dry_s``."""

    pending: int
    pieces: int
    dry_s: float


def demands(place: Place, schedule: Schedule, steps: int) -> list[Demand]:
    """The pieces that need one of the next ``steps`` tokens, and the one after them."""
    around = schedule.lookback + schedule.lookforward
    wanted, dry_s, asked = schedule.lookforward - place.pending, place.dry_s, list[Demand]()
    for number in count(place.pieces):
        size = schedule.chunk(number)
        wanted += size
        asked.append(Demand(max(0, wanted), size + around, dry_s))
        if wanted > steps:
            break
        dry_s += size * CODE_S
    return asked


def steps_left(left: int) -> int:
    """How many of the smallest slices read ``left`` tokens."""
    return -(-left // SMALLEST_SLICE)


def prompt_slice(demands: Sequence[Demand], work: Work, pace: Pace, now_s: float) -> int:
    """The largest slice that lets no demand starve which smallest slices would not let starve.

    It holds where tokens, prompts and windows take as long as ``pace`` says: after a slice the next
    one may be the smallest again, and what was on time is still on time.
    """
    if not demands:
        return UNHEARD_SLICE
    for size in SLICES:
        if all(_on_time(each, size, demands, work, pace, now_s) for each in demands):
            return size
    return SMALLEST_SLICE


def _on_time(
    demand: Demand, size: int, demands: Sequence[Demand], work: Work, pace: Pace, now_s: float
) -> bool:
    """Whether a slice of ``size`` costs this demand nothing, or nothing that it does not have."""
    later_s = _tokens_s(demand.tokens, size, work, pace)
    if later_s <= _tokens_s(demand.tokens, SMALLEST_SLICE, work, pace):
        return True
    before = [each.window for each in demands if each.dry_s <= demand.dry_s]
    codes = sum(before) + max(each.window for each in demands)  # one window may be under way
    return now_s + later_s + codes * pace.decoded_code_s + SPARE_S <= demand.dry_s


def _tokens_s(tokens: int, size: int, work: Work, pace: Pace) -> float:
    """The time of so many tokens when this step reads ``size`` and the next ones the smallest.

    Once the prompt is read, its row makes every token dearer: at most by its share.
    """
    if tokens <= 0:
        return 0.0
    first = min(size, work.left)
    read = min(first + SMALLEST_SLICE * (tokens - 1), work.left)
    joined = max(0, tokens - 1 - steps_left(work.left - first))
    return (
        tokens * pace.token_s
        + read * pace.prompt_token_s
        + joined * pace.token_s / max(1, work.rows)
    )
