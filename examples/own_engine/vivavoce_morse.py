"""An engine of one's own: it taps a text in Morse code.

The server calls an engine from one thread: `load`, then any mix of `admit`, `step` and `release`.
A step makes the next piece of sound of every utterance that has a slot.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vivavoce.engines.base import Capabilities, Engine, EngineInfo, Produced
from vivavoce.engines.options import parse_options
from vivavoce.types import Samples, Utterance, Voice

SAMPLE_RATE_HZ = 16_000
DOTS_OF_A_WORD = 50  # "PARIS" and the gap after it, by which speed is measured
_IN_ORDER = """.- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..-
...- .-- -..- -.-- --.."""
SIGNS = dict(zip("abcdefghijklmnopqrstuvwxyz", _IN_ORDER.split(), strict=True))


@dataclass(frozen=True)
class MorseOptions:
    """What can be set, as `morse.pitch_hz=440`.

    Of the options that vivavoce offers every engine, `voice` is the default voice.
    """

    pitch_hz: float = 700.0
    words_per_minute: float = 30.0
    capacity: int = 8
    voice: str = "key"


def create(options: Mapping[str, object]) -> Engine:
    """Make the engine, not yet loaded (entry point). Raises SettingsError for a wrong option."""
    return MorseEngine(parse_options(MorseOptions, "morse", options))


def options_class() -> type[MorseOptions]:
    """Tell vivavoce which options there are; an engine may leave this out."""
    return MorseOptions


class MorseEngine(Engine):
    """Each live slot holds the letters that are still to be tapped."""

    def __init__(self, options: MorseOptions) -> None:
        self.options = options
        self._dot = np.zeros(0, np.float32)
        self._live: dict[int, Iterator[str]] = {}
        self._numbers = itertools.count()

    @property
    def info(self) -> EngineInfo:
        return EngineInfo("morse", "international", SAMPLE_RATE_HZ, Capabilities())

    @property
    def capacity(self) -> int:
        return self.options.capacity

    def load(self) -> None:
        dot_s = 60.0 / (self.options.words_per_minute * DOTS_OF_A_WORD)
        at_s = np.arange(round(dot_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
        ramp = np.clip(np.minimum(at_s, at_s[::-1]) / 0.004, 0.0, 1.0)  # no clicks
        tone = 0.3 * ramp * np.sin(2 * np.pi * self.options.pitch_hz * at_s)
        self._dot = tone.astype(np.float32)

    def voices(self) -> Sequence[Voice]:
        return [Voice("key", "morse", "A telegraph key")]

    def longest_audio_s(self, utterance: Utterance) -> float | None:
        """Tapping takes longer than speaking: no bound on a text that has an end."""
        return None

    def admit(self, utterance: Utterance) -> int:
        slot = next(self._numbers)
        self._live[slot] = iter(utterance.text.lower())
        return slot

    def release(self, slot: int) -> None:
        self._live.pop(slot, None)

    def step(self) -> Sequence[Produced]:
        return [self._tap_letter(slot, letters) for slot, letters in [*self._live.items()]]

    def _tap_letter(self, slot: int, letters: Iterator[str]) -> Produced:
        letter = next(letters, None)
        if letter is None:
            self.release(slot)
            return Produced(slot, np.zeros(0, np.float32), last=True, finish_reason="stop")
        return Produced(slot, self._sound_of(letter))

    def _sound_of(self, letter: str) -> Samples:
        pause = np.zeros(len(self._dot), np.float32)
        sound = [pause, pause]  # between letters, with the one that follows every sign
        for sign in SIGNS.get(letter, ""):
            tone = self._dot if sign == "." else np.resize(self._dot, 3 * len(self._dot))
            sound += [tone, pause]
        return np.concatenate(sound)
