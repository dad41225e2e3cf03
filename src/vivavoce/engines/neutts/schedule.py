"""When each row is decoded, how much of it, and how much of a prompt is read meanwhile.

All of it keeps playback from running dry. Times are seconds of one clock, sizes in codes of 20 ms
(a code is a token).

- Pieces: the row whose playback runs dry first goes first. Its piece is as large as the schedule
  has it, so that the same codes always give the same sound, whoever else speaks. An adaptive
  schedule takes less where playback would run dry before the piece is whole, and more where there
  is time: small pieces cost more, as around each the same codes are decoded again.
- Slices of a new row's prompt: large ones let it begin sooner, and make all others wait longer for
  their next token. So a slice is as large as the sound that they have in hand allows: the smallest
  one is never left where somebody's playback could run dry by it.
- The ramp: how large the first pieces are. Small ones sound sooner; where tokens come hardly faster
  than they are played, they let playback run dry. Which ramp a machine can hold is found once, by
  the first words, which nobody hears: they also bring the weights into memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, TypeAlias

from vivavoce.engines.clock import PlaybackClock
from vivavoce.engines.neutts.backbone import PREFILL_SLICE
from vivavoce.engines.neutts.codec.stream import CODES_PER_S, Schedule

if TYPE_CHECKING:
    pass

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

    ``underrun_at_s`` is when its playback runs dry; ``available`` codes could be decoded now,
    ``scheduled`` is what the next piece should have; ``ended``: no more codes will come.
    """

    key: int
    underrun_at_s: float
    available: int
    scheduled: int
    has_audio: bool
    ended: bool


@dataclass(frozen=True, slots=True)
class DecodeJob:
    """Decode ``chunk`` codes of row ``key``."""

    key: int
    chunk: int


@dataclass(slots=True)
class StepCosts:
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

    @classmethod
    def of(cls, schedule: Schedule, *, adaptive: bool) -> WindowCosts:
        """Of a schedule."""
        return cls(schedule.lookback + schedule.lookforward, schedule.chunks[-1], adaptive)


def underrun_at(deadline_s: float, admitted_s: float) -> float:
    """When a row without sound yet should be served as if its playback ran dry."""
    return max(deadline_s, admitted_s + PATIENCE_S)


def next_job(
    rows: Sequence[RowState], pace: StepCosts, costs: WindowCosts, now_s: float
) -> DecodeJob | None:
    """The most urgent piece that is due; None where waiting is better."""
    due = [
        (row.underrun_at_s, row.key, chunk)
        for row in rows
        if (chunk := due_chunk(row, pace, costs, now_s)) > 0
    ]
    if not due:
        return None
    _, key, chunk = min(due)
    return DecodeJob(key, chunk)


def due_chunk(row: RowState, pace: StepCosts, costs: WindowCosts, now_s: float) -> int:
    """How many codes of this row to decode now; 0 for none yet."""
    if row.available <= 0:
        return 0
    if not costs.adaptive:
        return row.scheduled if row.ended or row.available >= row.scheduled else 0
    slack_s = row.underrun_at_s - now_s
    leisurely = slack_s > LEISURE_S
    wanted = max(row.scheduled, LEISURELY_FIRST) if leisurely else row.scheduled
    if row.available >= wanted or row.ended:
        return min(row.available, costs.largest if leisurely else wanted)
    if not row.has_audio or row.available < SMALLEST:
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
    ``window`` codes, and its playback runs dry at ``underrun_at_s``."""

    tokens: int
    window: int
    underrun_at_s: float


@dataclass(frozen=True, slots=True)
class PrefillWork:
    """What a step does: ``left`` prompt tokens are to be read in all, ``rows`` speak."""

    left: int
    rows: int


@dataclass(frozen=True, slots=True)
class ListenerState:
    """Where a listener is: ``pending`` codes were made and not given out as sound, ``pieces`` were,
    and with those its playback runs dry at ``underrun_at_s``."""

    pending: int
    pieces: int
    underrun_at_s: float


def demands(place: ListenerState, schedule: Schedule, steps: int) -> list[Demand]:
    """The pieces that need one of the next ``steps`` tokens, and those after them while they grow.

    What a larger piece waits for, it has less time for than the one before.
    """
    around = schedule.lookback + schedule.lookforward
    wanted, asked = schedule.lookforward - place.pending, list[Demand]()
    underrun_at_s = place.underrun_at_s
    for number in count(place.pieces):
        size = schedule.chunk(number)
        wanted += size
        asked.append(Demand(max(0, wanted), size + around, underrun_at_s))
        if wanted > steps and size == schedule.chunk(number + 1):
            break
        underrun_at_s += size * CODE_S
    return asked


def steps_left(left: int) -> int:
    """How many of the smallest slices read ``left`` tokens."""
    return -(-left // SMALLEST_SLICE)


def prompt_slice(
    demands: Sequence[Demand], work: PrefillWork, pace: StepCosts, now_s: float
) -> int:
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
    demand: Demand,
    size: int,
    demands: Sequence[Demand],
    work: PrefillWork,
    pace: StepCosts,
    now_s: float,
) -> bool:
    """Whether a slice of ``size`` costs this demand nothing, or nothing that it does not have."""
    later_s = _tokens_s(demand.tokens, size, work, pace)
    if later_s <= _tokens_s(demand.tokens, SMALLEST_SLICE, work, pace):
        return True
    before = [each.window for each in demands if each.underrun_at_s <= demand.underrun_at_s]
    codes = sum(before) + max(each.window for each in demands)  # one window may be under way
    return now_s + later_s + codes * pace.decoded_code_s + SPARE_S <= demand.underrun_at_s


def _tokens_s(tokens: int, size: int, work: PrefillWork, pace: StepCosts) -> float:
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


SPEECH_CODES = 300
"""Six seconds: by then pieces have their largest size."""

Ramp: TypeAlias = tuple[int, ...]
RAMPS: tuple[Ramp, ...] = (
    (8, 8, 12, 15, 25, 25, 50),
    (12, 12, 15, 25, 25, 50),
    (16, 16, 25, 25, 50),
    (25, 25, 25, 50),
    (50,),
)
"""The quickest first. The first one keeps playback fed where a token takes half of real time."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What one caller's speech costs: a token while the codec rests and beside it, and a code that
    is decoded."""

    token_s: float
    token_beside_s: float
    decoded_code_s: float


def ramp_for(speed: Speed, around: int, lookforward: int) -> Ramp:
    """The quickest ramp that never starves one caller's playback.

    ``around`` codes are decoded with each piece, ``lookforward`` of them after it. Where speech
    comes slower than it is played no start is late enough, so that the quickest is taken.
    """
    for ramp in RAMPS:
        if starved_s(ramp, speed, around, lookforward) == 0.0:
            return ramp
    return RAMPS[0]


def starved_s(ramp: Sequence[int], speed: Speed, around: int, lookforward: int) -> float:
    """For how long one caller hears nothing between the first sound and the last."""
    machine, playback = _Machine(speed), PlaybackClock()
    given, pieces, starved = 0, 0, 0.0
    while given < SPEECH_CODES:
        size = min(ramp[min(pieces, len(ramp) - 1)], SPEECH_CODES - given)
        machine.until_codes(min(given + size + lookforward, SPEECH_CODES))
        machine.decode(size + around)
        starved += playback.push(size * CODE_S, machine.now_s)
        given, pieces = given + size, pieces + 1
    return starved


class _Machine:
    """Tokens come while the codec works, and while it waits for them."""

    def __init__(self, speed: Speed) -> None:
        self.now_s = 0.0
        self._speed = speed
        self._codes = 0.0

    def until_codes(self, codes: int) -> None:
        missing = codes - self._codes
        if missing > 0:
            self.now_s += missing * self._speed.token_s
            self._codes = codes

    def decode(self, codes: int) -> None:
        spent_s = codes * self._speed.decoded_code_s
        self.now_s += spent_s
        self._codes += spent_s / self._speed.token_beside_s
