"""The Piper engine: every step advances the utterance whose playback would run dry first."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from vivavoce.audio.pcm import amplify
from vivavoce.audio.resample import Resampler
from vivavoce.engines.base import Capabilities, Engine, EngineInfo, Produced
from vivavoce.engines.clock import PlaybackClock
from vivavoce.engines.piper.model import VoiceModel
from vivavoce.engines.piper.options import (
    PiperOptions,
    SynthesisOptions,
    check_utterance,
    longest_audio_s,
    synthesis_options,
)
from vivavoce.engines.piper.synthesis import SILENCE, StepOutput, Synthesis, WindowPlan
from vivavoce.engines.piper.voices import VoiceShelf
from vivavoce.errors import EngineError, VivavoceError
from vivavoce.runtime.espeak import espeak_version, start_espeak
from vivavoce.runtime.nvidia import only_gpu
from vivavoce.runtime.onnx import onnx_runtime, require_device
from vivavoce.runtime.worker_pool import Done, WorkerPool
from vivavoce.types import Gpu, Sampling, Span, Utterance, Voice, WeightsFormat

CAPABILITIES = Capabilities(speed=True, seed=True, phonemes=True)
FIRST_SOUND_PATIENCE_S = 0.6
"""A caller whose playback would run dry sooner than this goes before one who waits for the first
sound: speech that breaks off is worse than speech that begins a little later."""
LEISURE_S = 0.3
"""The text encoder of a long clause takes this long; it must not take every lane at once."""
WAIT_S = 0.004
"""How long a step waits for a worker before it lets the engine's thread look at its commands."""
WARM_UP = "Good morning, how can I help you?"


@dataclass(slots=True)
class _Slot:
    """An admitted utterance. ``synthesis`` is made with the first unit of work.

    ``clock`` tells when its caller's playback runs dry; ``busy``: a worker has it.
    """

    number: int
    utterance: Utterance
    voice: str
    options: SynthesisOptions
    admitted_s: float
    clock: PlaybackClock
    synthesis: Synthesis | None = None
    busy: bool = False

    @property
    def urgency(self) -> tuple[float, int]:
        """When playback runs dry, then who came first; the smallest goes next."""
        dry_s, patient_s = self.clock.underrun_at_s, self.admitted_s + FIRST_SOUND_PATIENCE_S
        return dry_s if self.clock.has_audio else max(dry_s, patient_s), self.number

    def near_underrun(self, now_s: float) -> bool:
        """Whether its playback runs dry before a slow piece of work could be over."""
        return self.clock.has_audio and self.clock.underrun_at_s < now_s + LEISURE_S

    def leisurely(self, now_s: float) -> bool:
        """Whether this is a clause that is prepared while the one before it still plays."""
        return not self.clock.has_audio and self.clock.underrun_at_s > now_s + LEISURE_S


class PiperEngine(Engine):
    """Piper voices behind the engine contract.

    A step gives every free worker (``options.workers``) one unit of work: the phonemes and encoder
    of one stretch of text, a run of the flow, or one decoder window (with several workers, all
    three at once up to an utterance's first sound). It returns as soon as one has ended, or with
    nothing after a few milliseconds, so that commands are obeyed while workers compute.
    """

    def __init__(self, options: PiperOptions | None = None) -> None:
        self.options = options or PiperOptions()
        self._shelf = VoiceShelf(self.options)
        self._slots: dict[int, _Slot] = {}
        self._numbers = itertools.count()
        self._workers: WorkerPool[_Slot, StepOutput] | None = None
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
        count = self.options.worker_count()
        self._workers = WorkerPool(self._advance, "vivavoce-piper", count, inline=count == 1)
        warm_up = Utterance((Span(WARM_UP),), self._shelf.listed()[0], sampling=Sampling(seed=0))
        synthesis = self._synthesis(self._slot(0, warm_up))
        while synthesis.advance().reason is None:
            pass

    def unload(self) -> None:
        """Wait for the workers, then give the memory back."""
        if self._workers is not None:
            self._workers.close()
        self._workers = None
        self._slots.clear()
        self._shelf.forget()

    def voices(self) -> Sequence[Voice]:
        """The voices found, the default one first; a speaker of many is ``name#speaker``."""
        return self._shelf.listed()

    def validate(self, utterance: Utterance) -> None:
        """Raise InputError for what these voices cannot speak."""
        name, _ = self._shelf.speaker(utterance.voice.id)
        check_utterance(utterance, self._shelf.config(name))

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
        """Start the most urgent work in the free workers, return what has ended."""
        if self._workers is None:
            return ()
        for slot in self._most_urgent(self._workers.free):
            slot.busy = True
            self._workers.start(slot)
        ended = self._workers.collect(WAIT_S)
        return [self._produced(done) for done in ended if self._is_live(done.job)]

    def _most_urgent(self, count: int) -> list[_Slot]:
        """The next to work on. One worker is kept from slow beginnings while sound may run dry."""
        now_s = time.monotonic()
        slots = sorted(self._slots.values(), key=lambda slot: slot.urgency)
        scarce = any(slot.near_underrun(now_s) for slot in slots)
        room = max(1, self.options.worker_count() - 1)
        room -= sum(slot.busy and not slot.clock.has_audio for slot in slots)
        chosen: list[_Slot] = []
        for slot in slots:
            if slot.busy or len(chosen) == count:
                continue
            if not slot.clock.has_audio and (scarce or slot.leisurely(now_s)):
                if room <= 0:
                    continue
                room -= 1
            chosen.append(slot)
        return chosen

    def _is_live(self, slot: _Slot) -> bool:
        return self._slots.get(slot.number) is slot

    def _produced(self, done: Done[_Slot, StepOutput]) -> Produced:
        """Note what a unit of work made; the last frees the slot. A fault is of one text alone."""
        slot, output = done.job, done.result
        slot.busy = False
        if output is None:
            del self._slots[slot.number]
            error = done.error
            if not isinstance(error, VivavoceError):
                error = EngineError("The voice failed on this text; the log says more.")
                error.__cause__ = done.error  # for the log; it may hold callers' words
            return Produced(slot.number, SILENCE, True, "error", error)
        slot.clock.push_speech(output.samples, self._info.sample_rate_hz, time.monotonic())
        if output.reason is not None:
            del self._slots[slot.number]
        return Produced(
            slot.number,
            amplify(output.samples, self.options.gain_db),
            output.reason is not None,
            output.reason,
            stages_ms=MappingProxyType(dict(output.stages_ms)),
        )

    def _advance(self, slot: _Slot) -> StepOutput:
        """One unit of work, in a worker."""
        if slot.synthesis is None:
            slot.synthesis = self._synthesis(slot)
        output = slot.synthesis.advance()
        while self._on_the_way_to_first_sound(slot, output):
            output = output.followed_by(slot.synthesis.advance())
        return output

    def _on_the_way_to_first_sound(self, slot: _Slot, output: StepOutput) -> bool:
        """Whether to go straight on: with other workers, nobody waits for this one to report."""
        workers = self._workers
        silent = not (slot.clock.has_audio or len(output.samples) or output.reason)
        awaited = slot.utterance.deadline_s <= slot.admitted_s + FIRST_SOUND_PATIENCE_S
        several = workers is not None and workers.count > 1
        return silent and awaited and several and self._is_live(slot)

    def _slot(self, number: int, utterance: Utterance) -> _Slot:
        name, speaker = self._shelf.speaker(utterance.voice.id)
        options = synthesis_options(utterance, self._shelf.config(name), speaker, self.options)
        clock = PlaybackClock(utterance.deadline_s)
        return _Slot(number, utterance, name, options, time.monotonic(), clock)

    def _synthesis(self, slot: _Slot) -> Synthesis:
        model, options = self._shelf.model(slot.voice), self.options
        plan = WindowPlan(
            options.first_window_frames,
            options.max_window_frames,
            options.window_growth,
            model.decoder_radius_frames,
        )
        resampler = Resampler(model.config.sample_rate_hz, self._info.sample_rate_hz)
        return Synthesis(model, slot.utterance.spans, slot.options, plan, resampler)

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
