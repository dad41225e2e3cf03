"""A deterministic engine without a model, for tests: ours and yours.

It speaks every character as 60 ms of a tone whose pitch depends on the voice, advances all of its
slots at once, clones voices (a pitch taken from the recording) and takes text in pieces. Delays
and faults are programmed with ``FakeOptions``: faults are set off by a word in the text, so that
a test can spoil one utterance and watch its neighbors, or by the call of a method
(``fake_faults.py``).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from vivavoce.engines.base import Capabilities, Engine, EngineInfo, Produced, TextLiking
from vivavoce.engines.options import parse_options
from vivavoce.errors import EngineError, InputError, ModelFileError, shown
from vivavoce.testing.fake_faults import Fault, parse_faults
from vivavoce.types import Gpu, ReferenceAudio, Samples, Utterance, Voice, WeightsFormat

CHARACTER_S = 0.060
PACED_WAIT_MS = 2.0
PLANTED_GPU = Gpu("", 5_000 * 2**20, 8_188 * 2**20, 2_100 * 2**20, 2_304 * 2**20)
PITCHES_HZ = {"alto": 330.0, "tenor": 220.0, "bass": 110.0}


@dataclass(frozen=True, slots=True)
class FakeOptions:
    """What the fake does and when it misbehaves.

    ``chunk_ms`` is the sound made per step and slot; ``step_ms`` the time a step takes;
    ``paced`` makes each chunk due no sooner than real time. The ``*_word`` options name words:
    an utterance with ``fail_word`` fails after its first chunk, ``nan_word`` yields NaN,
    ``runaway_word`` never ends, ``break_word`` breaks the whole engine, ``slow_word`` makes
    every step with it take ``slow_ms``. ``fault`` says what else goes wrong, and where: see
    ``fake_faults.py``. ``journal`` is a file that gets a JSON line per chunk.
    Without ``expressive`` it takes neither instructions nor sampling. ``gpu`` is the name of a card
    that it claims to run on, with ``PLANTED_GPU``'s memory. It likes sentences in groups of
    ``group_s``, 0 for one by one.
    """

    sample_rate_hz: int = 24_000
    capacity: int = 64
    voice: str = "alto"
    chunk_ms: float = 80.0
    step_ms: float = 0.0
    load_ms: float = 0.0
    paced: bool = False
    cloning: bool = True
    speed: bool = True
    expressive: bool = True
    group_s: float = 0.0
    fail_word: str = "failword"
    nan_word: str = "nanword"
    runaway_word: str = "runawayword"
    break_word: str = "breakword"
    slow_word: str = "slowword"
    slow_ms: float = 200.0
    fault: str = ""
    journal: str = ""
    gpu: str = ""


def create(options: Mapping[str, Any]) -> Engine:
    """Make the fake engine (entry point). Raises SettingsError for a wrong option."""
    return FakeEngine(parse_options(options_class(), "fake", options))


def options_class() -> type[FakeOptions]:
    """The class of this engine's options."""
    return FakeOptions


@dataclass(slots=True)
class _Live:
    utterance: Utterance
    text: str
    open: bool
    began_s: float
    made: int = 0
    chunks: int = 0
    first_s: float = 0.0
    order: int = field(default=0)


class FakeEngine(Engine):
    """See the module's docstring. ``steps`` counts the steps taken, for tests."""

    def __init__(self, options: FakeOptions | None = None) -> None:
        self.options = options or FakeOptions()
        self.faults = parse_faults(self.options.fault)
        self.steps = 0
        self.loaded = False
        self._live: dict[int, _Live] = {}
        self._fault: Fault | None = None  # of this step
        self._journal: TextIO | None = None

    @property
    def info(self) -> EngineInfo:
        """Constant, but for the options."""
        capabilities = Capabilities(
            cloning=self.options.cloning,
            incremental_text=True,
            speed=self.options.speed,
            seed=True,
            sampling=self.options.expressive,
            instructions=self.options.expressive,
            phonemes=True,
        )
        return EngineInfo(
            name="fake",
            model="fake-tones",
            sample_rate_hz=self.options.sample_rate_hz,
            capabilities=capabilities,
            default_voice=self.options.voice,
            device="cuda:0" if self.options.gpu else "cpu",
            details={"why": "tones, no model"},
            weights={"tones": WeightsFormat("none", "there are no weights")},
            text=TextLiking(self.options.group_s),
        )

    def gpu(self) -> Gpu | None:
        """The one that the options plant, while loaded."""
        self.faults.strike("gpu")
        if not self.options.gpu or not self.loaded:
            return None
        return replace(PLANTED_GPU, name=self.options.gpu)

    @property
    def capacity(self) -> int:
        """As many as the options say."""
        return self.options.capacity

    def check_files(self) -> None:
        """There are none."""
        self.faults.strike("check_files")

    def load(self) -> None:
        """Wait ``load_ms``."""
        self.faults.strike("load")
        time.sleep(self.options.load_ms / 1000)
        if self.options.journal:
            path = Path(self.options.journal)
            self._journal = path.open("a", buffering=1, encoding="utf-8")
        self.loaded = True

    def unload(self) -> None:
        """Forget everything."""
        self.faults.strike("unload")
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        self.loaded = False

    def voices(self) -> Sequence[Voice]:
        """alto, tenor and bass."""
        if self.faults.strike("voices"):
            return None  # type: ignore[return-value]
        return [Voice(id=name, engine="fake", name=name.title()) for name in PITCHES_HZ]

    def validate(self, utterance: Utterance) -> None:
        """Refuse options: the fake has none per utterance."""
        self.faults.strike("validate", utterance.text)
        for name in utterance.options:
            raise InputError(f"The engine 'fake' has no option {shown(name)}.", param=name)

    def clone(self, reference: ReferenceAudio) -> Voice:
        """A pitch between 150 and 300 Hz, taken from the recording's bytes."""
        fault = self.faults.strike("clone", reference.transcript or "")
        if fault and fault.kind == "wrong":
            return None  # type: ignore[return-value]
        digest = hashlib.sha256(reference.samples.tobytes()).digest()
        pitch_hz = np.nan if fault else 150.0 + int.from_bytes(digest[:2], "little") % 150
        return Voice(id=f"clone-{digest.hex()[:8]}", engine="fake", kind="cloned", data=pitch_hz)

    def voice_to_bytes(self, voice: Voice) -> bytes:
        """The pitch as JSON."""
        if self.faults.strike("voice_to_bytes"):
            return None  # type: ignore[return-value]
        return json.dumps({"pitch_hz": voice.data}).encode()

    def voice_from_bytes(self, data: bytes) -> Any:
        """Inverse of ``voice_to_bytes``."""
        if self.faults.strike("voice_from_bytes"):
            return np.nan
        try:
            return float(json.loads(data)["pitch_hz"])
        except (ValueError, KeyError, TypeError) as error:
            raise ModelFileError("The saved voice is damaged.") from error

    def admit(self, utterance: Utterance) -> int:
        """Take the lowest free slot."""
        if self.faults.strike("admit", utterance.text):
            return min(self._live, default="none")  # type: ignore[return-value]
        slot = next(number for number in itertools.count() if number not in self._live)
        self._live[slot] = _Live(utterance, utterance.text, utterance.text_open, time.monotonic())
        return slot

    def extend(self, slot: int, text: str) -> None:
        """Append text."""
        self.faults.strike("extend", text)
        self._live[slot].text += text

    def finish(self, slot: int) -> None:
        """No more text."""
        self.faults.strike("finish", self._live[slot].text)
        self._live[slot].open = False

    def release(self, slot: int) -> None:
        """Free a slot."""
        self.faults.strike("release", self._live[slot].text if slot in self._live else "")
        self._live.pop(slot, None)

    def step(self) -> Sequence[Produced]:
        """One chunk for every slot that is due one."""
        self.steps += 1
        self._spend_time()
        if any(self.options.break_word in live.text for live in self._live.values()):
            raise RuntimeError("the fake engine was told to break")
        texts = " ".join(live.text for live in self._live.values())
        self._fault = self.faults.strike("step", texts)
        produced = [self._advance(slot) for slot in list(self._live) if self._due(slot)]
        if self._fault and self._fault.kind == "wrong":
            produced.append(Produced(max(self._live, default=0) + 99, _tone(0, 1, 1.0, 1)))
        return produced

    def _spoiled(self, live: _Live) -> str:
        """What is wrong with a slot's sound in this step; "" where nothing is."""
        return self._fault.kind if self._fault and self._fault.word in live.text else ""

    def _spend_time(self) -> None:
        slow = any(self.options.slow_word in live.text for live in self._live.values())
        wait_ms = max(self.options.step_ms, self.options.slow_ms if slow else 0.0)
        if self.options.paced and wait_ms == 0:
            wait_ms = self._until_due_ms()
        if wait_ms:
            time.sleep(wait_ms / 1000)

    def _until_due_ms(self) -> float:
        """How long until a chunk is due, but not so long that commands would have to wait."""
        due_s = min((self._due_s(live) for live in self._live.values()), default=0.0)
        return min(max((due_s - time.monotonic()) * 1000, 0.0), PACED_WAIT_MS)

    def _due_s(self, live: _Live) -> float:
        return live.began_s + live.chunks * self.options.chunk_ms / 1000

    def _due(self, slot: int) -> bool:
        live = self._live[slot]
        if live.open and live.made >= self._total(live):
            return False
        return not self.options.paced or time.monotonic() >= self._due_s(live)

    def _total(self, live: _Live) -> int:
        if self.options.runaway_word in live.text or self._spoiled(live) == "endless":
            return 1 << 40
        seconds = len(live.text) * CHARACTER_S / live.utterance.speed
        return round(seconds * self.options.sample_rate_hz)

    def _advance(self, slot: int) -> Produced:
        live = self._live[slot]
        if self.options.fail_word in live.text and live.chunks >= 1:
            self.release(slot)
            error = EngineError("the fake engine was told to fail")
            return Produced(slot, _tone(0, 0, 1.0, 1), last=True, error=error)
        chunk = round(self.options.chunk_ms / 1000 * self.options.sample_rate_hz)
        limit = live.utterance.max_audio_s
        cap = 1 << 40 if limit is None else round(limit * self.options.sample_rate_hz)
        end = min(live.made + chunk, self._total(live), cap)
        samples = self._sound(live, end)
        live.made, live.chunks = end, live.chunks + 1
        live.first_s = live.first_s or time.monotonic()
        self._note(live)
        told = partial(Produced, slot, samples, tokens=1, first_token_s=live.first_s)
        if live.open or end < min(self._total(live), cap):
            return told(stages_ms={"tone": self.options.step_ms})
        self.release(slot)
        return told(last=True, finish_reason="stop" if end >= self._total(live) else "length")

    def _sound(self, live: _Live, end: int) -> Samples:
        pitch_hz = live.utterance.voice.data or PITCHES_HZ.get(live.utterance.voice.id, 330.0)
        samples = _tone(live.made, end, float(pitch_hz), self.options.sample_rate_hz)
        spoiled = self._spoiled(live)
        if self.options.nan_word in live.text or spoiled == "nan":
            samples[:] = np.nan
        if spoiled == "shape":
            return samples.reshape(1, -1)
        return samples.astype(np.int16) if spoiled == "dtype" else samples

    def _note(self, live: _Live) -> None:
        if self._journal is not None:
            line = {"t_ns": time.monotonic_ns(), "text": live.text, "samples": live.made}
            self._journal.write(json.dumps(line) + "\n")


def _tone(start: int, end: int, pitch_hz: float, sample_rate_hz: int) -> Samples:
    """A cosine of amplitude 0.5 that starts loud; the same at whatever chunking."""
    phase = np.arange(start, end, dtype=np.float64) * (2 * np.pi * pitch_hz / sample_rate_hz)
    return (0.5 * np.cos(phase)).astype(np.float32)
