"""How large the first pieces of sound are: as small as this machine can go on feeding.

Small pieces sound sooner, and around each the codec decodes the same codes again; where tokens come
hardly faster than they are played, small ones at the start let playback run dry. Which ramp a
machine can hold is found once, when the engine is loaded, so that later the same codes always give
the same sound.

Pure: times in seconds, sizes in codes of 20 ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

CODE_S = 0.02
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
    clock = _Clock(speed)
    given, pieces, starved, dry_s = 0, 0, 0.0, None
    while given < SPEECH_CODES:
        size = min(ramp[min(pieces, len(ramp) - 1)], SPEECH_CODES - given)
        clock.until_codes(min(given + size + lookforward, SPEECH_CODES))
        clock.decode(size + around)
        if dry_s is None:
            dry_s = clock.now_s
        starved += max(0.0, clock.now_s - dry_s)
        dry_s = max(dry_s, clock.now_s) + size * CODE_S
        given, pieces = given + size, pieces + 1
    return starved


class _Clock:
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
