"""The Piper engine: every step advances the utterance whose playback would run dry first."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from vivavoce.audio.pcm import amplify
from vivavoce.audio.resample import Resampler
from vivavoce.engines.base import Capabilities, Engine, EngineInfo, Produced
from vivavoce.engines.piper.lanes import Lanes
from vivavoce.engines.piper.manner import check_manner, longest_audio_s, manner_of
from vivavoce.engines.piper.model import VoiceModel
from vivavoce.engines.piper.options import PiperOptions
from vivavoce.engines.piper.sessions import require_device
from vivavoce.engines.piper.synthesis import SILENCE, Manner, Piece, Synthesis
from vivavoce.engines.piper.voices import VoiceShelf
from vivavoce.engines.piper.windows import WindowPlan
from vivavoce.errors import EngineError, VivavoceError
from vivavoce.runtime.espeak import espeak_version, start_espeak
from vivavoce.runtime.nvidia import only_gpu
from vivavoce.runtime.onnx import onnx_runtime
from vivavoce.types import Gpu, Samples, Sampling, Span, Utterance, Voice, WeightsFormat

CAPABILITIES = Capabilities(speed=True, seed=True, phonemes=True)
FIRST_SOUND_PATIENCE_S = 0.6
"""A caller whose playback would run dry sooner than this goes before one who waits for the first
sound: speech that breaks off is worse than speech that begins a little later."""
LEISURE_S = 0.3
"""The text encoder of a long clause takes this long; it must not take every lane at once."""
SILENCE_LEVEL = 0.003
WARM_UP = "Good morning, how can I help you?"


@dataclass(slots=True)
class _Slot:
    """An admitted utterance. ``synthesis`` is made with the first unit of work.

    ``dry_s`` (monotonic clock) is when its caller's playback runs dry.
    """

    number: int
    utterance: Utterance
    voice: str
    manner: Manner
    admitted_s: float
    dry_s: float
    synthesis: Synthesis | None = None
    heard: bool = False
    busy: bool = False

    @property
    def urgency(self) -> tuple[float, int]:
        """When playback runs dry, then who came first; the smallest goes next."""
        patient_s = self.admitted_s + FIRST_SOUND_PATIENCE_S
        return self.dry_s if self.heard else max(self.dry_s, patient_s), self.number

    def near_silence(self, now_s: float) -> bool:
        """Whether its playback runs dry before a slow piece of work could be over."""
        return self.heard and self.dry_s < now_s + LEISURE_S

    def leisurely(self, now_s: float) -> bool:
        """Whether this is a clause that is prepared while the one before it still plays."""
        return not self.heard and self.dry_s > now_s + LEISURE_S

    def count(self, samples: Samples, sample_rate_hz: int) -> None:
        """Note sound that was made; silence before the first word is trimmed, so not heard.

        What comes late is played when it comes, so playback lasts from then on.
        """
        if not self.heard:
            loud = np.flatnonzero(np.abs(samples) > SILENCE_LEVEL)
            samples = samples[loud[0] :] if len(loud) else samples[:0]
        if len(samples):
            self.heard = True
            self.dry_s = max(self.dry_s, time.monotonic()) + len(samples) / sample_rate_hz


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How a unit of work went for one slot."""

    slot: _Slot
    piece: Piece | None
    error: VivavoceError | None = None


class PiperEngine(Engine):
    """Piper voices behind the engine contract.

    A step gives every free lane (``options.workers``) one unit of work: the phonemes and encoder
    of one stretch of text, a run of the flow, or one decoder window (with several lanes, all
    three at once up to an utterance's first sound). It returns as soon as one has ended, or with
    nothing after a few milliseconds, so that commands are obeyed while lanes compute.
    """

    def __init__(self, options: PiperOptions | None = None) -> None:
        self.options = options or PiperOptions()
        self._shelf = VoiceShelf(self.options)
        self._slots: dict[int, _Slot] = {}
        self._numbers = itertools.count()
        self._lanes: Lanes[_Outcome] | None = None
        self._info = EngineInfo("piper", self.options.voice, 22_050, CAPABILITIES)

    @property
    def info(self) -> EngineInfo:
        """Who this engine is; the rate is the default voice's, others are converted to it."""
        return self._info

    @property
    def capacity(self) -> int:
        """How many utterances can be in slots at once."""
        return self.options.capacity

    def gpu(self) -> Gpu | None:
        """What the driver says of the card, where there is one alone; ONNX Runtime does not tell
        how much of it is its own."""
        return only_gpu() if self.options.device == "cuda" else None

    def check_files(self) -> None:
        """Find the voices. Raises SetupError."""
        self._shelf.find(may_download=False)
        self._info = self._describe()

    def load(self) -> None:
        """Find the voices, load the default one, speak a sentence to warm up. Raises SetupError."""
        require_device(self.options.device)
        start_espeak()
        self._shelf.find()
        name, _ = self._shelf.speaker(self._shelf.listed()[0].id)
        self._info = self._describe(self._shelf.model(name))
        self._lanes = Lanes(self.options.worker_count())
        warm_up = Utterance((Span(WARM_UP),), self._shelf.listed()[0], sampling=Sampling(seed=0))
        synthesis = self._synthesis(self._slot(0, warm_up))
        while synthesis.advance().reason is None:
            pass

    def unload(self) -> None:
        """Wait for the lanes, then give the memory back."""
        if self._lanes is not None:
            self._lanes.close()
        self._lanes = None
        self._slots.clear()
        self._shelf.forget()

    def voices(self) -> Sequence[Voice]:
        """The voices found, the default one first; a speaker of many is ``name#speaker``."""
        return self._shelf.listed()

    def validate(self, utterance: Utterance) -> None:
        """Raise InputError for what these voices cannot speak."""
        name, _ = self._shelf.speaker(utterance.voice.id)
        check_manner(utterance, self._shelf.config(name))

    def longest_audio_s(self, utterance: Utterance) -> float | None:
        """More than usual where the noise scales or ``length_scale`` stretch speech."""
        name, _ = self._shelf.speaker(utterance.voice.id)
        return longest_audio_s(utterance, self._shelf.config(name), self.options)

    def admit(self, utterance: Utterance) -> int:
        """Take a slot. Raises InputError as ``validate`` does."""
        self.validate(utterance)
        number = next(self._numbers)
        self._slots[number] = self._slot(number, utterance)
        return number

    def release(self, slot: int) -> None:
        """Free a slot; a unit of its work that is running ends unheard."""
        self._slots.pop(slot, None)

    def step(self) -> Sequence[Produced]:
        """Start the most urgent work in the free lanes, return what has ended."""
        if self._lanes is None:
            return ()
        for slot in self._most_urgent(self._lanes.free):
            slot.busy = True
            self._lanes.start(partial(self._advance, slot))
        return [self._take(each) for each in self._lanes.collect() if self._heard(each.slot)]

    def _most_urgent(self, count: int) -> list[_Slot]:
        """The next to work on. One lane is kept from slow beginnings while sound may run dry."""
        now_s = time.monotonic()
        slots = sorted(self._slots.values(), key=lambda slot: slot.urgency)
        scarce = any(slot.near_silence(now_s) for slot in slots)
        room = max(1, self.options.worker_count() - 1)
        room -= sum(slot.busy and not slot.heard for slot in slots)
        chosen: list[_Slot] = []
        for slot in slots:
            if slot.busy or len(chosen) == count:
                continue
            if not slot.heard and (scarce or slot.leisurely(now_s)):
                if room <= 0:
                    continue
                room -= 1
            chosen.append(slot)
        return chosen

    def _heard(self, slot: _Slot) -> bool:
        return self._slots.get(slot.number) is slot

    def _take(self, outcome: _Outcome) -> Produced:
        """Note what a unit of work made; the last frees the slot."""
        slot, piece = outcome.slot, outcome.piece
        slot.busy = False
        if piece is None:
            del self._slots[slot.number]
            return Produced(slot.number, SILENCE, True, "error", outcome.error)
        slot.count(piece.samples, self._info.sample_rate_hz)
        if piece.reason is not None:
            del self._slots[slot.number]
        return Produced(
            slot.number,
            amplify(piece.samples, self.options.gain_db),
            piece.reason is not None,
            piece.reason,
            stages_ms=MappingProxyType(dict(piece.stages_ms)),
        )

    def _advance(self, slot: _Slot) -> _Outcome:
        """One unit of work, in a lane; never raises."""
        try:
            if slot.synthesis is None:
                slot.synthesis = self._synthesis(slot)
            piece = slot.synthesis.advance()
            while self._on_the_way_to_first_sound(slot, piece):
                piece = piece.followed_by(slot.synthesis.advance())
            return _Outcome(slot, piece)
        except VivavoceError as error:
            return _Outcome(slot, None, error)
        except Exception as error:  # noqa: BLE001 - one text's fault ends it alone
            failed = EngineError("The voice failed on this text; the log says more.")
            failed.__cause__ = error  # for the log; it may hold callers' words
            return _Outcome(slot, None, failed)

    def _on_the_way_to_first_sound(self, slot: _Slot, piece: Piece) -> bool:
        """Whether to go straight on: with other lanes, nobody waits for this one to report."""
        lanes = self._lanes
        silent = not slot.heard and not len(piece.samples) and piece.reason is None
        awaited = slot.utterance.deadline_s <= slot.admitted_s + FIRST_SOUND_PATIENCE_S
        return silent and awaited and lanes is not None and lanes.count > 1 and self._heard(slot)

    def _slot(self, number: int, utterance: Utterance) -> _Slot:
        name, speaker = self._shelf.speaker(utterance.voice.id)
        manner = manner_of(utterance, self._shelf.config(name), speaker, self.options)
        return _Slot(number, utterance, name, manner, time.monotonic(), utterance.deadline_s)

    def _synthesis(self, slot: _Slot) -> Synthesis:
        model, options = self._shelf.model(slot.voice), self.options
        plan = WindowPlan(
            options.first_window_frames,
            options.max_window_frames,
            options.window_growth,
            model.decoder_radius_frames,
        )
        resampler = Resampler(model.config.sample_rate_hz, self._info.sample_rate_hz)
        return Synthesis(model, slot.utterance.spans, slot.manner, plan, resampler)

    def _describe(self, model: VoiceModel | None = None) -> EngineInfo:
        """What the files of the voices say, and the default one's ``model`` once it is loaded."""
        voices = self._shelf.listed()
        tags = {tag for voice in voices for tag in voice.languages}
        name, _ = self._shelf.speaker(voices[0].id)
        return EngineInfo(
            name="piper",
            model=name,
            sample_rate_hz=self._shelf.config(name).sample_rate_hz,
            capabilities=CAPABILITIES,
            languages=tuple(sorted({tag.partition("-")[0] for tag in tags})),
            device=self.options.device,
            default_voice=voices[0].id,
            voice_aliases=self._shelf.aliases(),
            details=MappingProxyType({} if model is None else self._details(model)),
            weights={} if model is None else {"voice": WeightsFormat("float32", "as published")},
        )

    def _details(self, model: VoiceModel) -> dict[str, Any]:
        ort = onnx_runtime()
        return {
            "onnxruntime": ort.__version__,
            "providers": tuple(ort.get_available_providers()),
            "threads": self.options.threads,
            "workers": self.options.worker_count(),
            "sha256": model.sha256,
            "espeak": espeak_version(),
            "why": "asked for" if self.options.device == "cuda" else "Piper is made for CPUs",
        }
