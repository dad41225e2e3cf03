"""The NeuTTS engine: a step makes one code for every row, while a thread beside it makes sound."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from vivavoce.engines.base import Engine, EngineInfo, Produced
from vivavoce.engines.neutts.codec.stream import SAMPLE_RATE_HZ, CodecStream, Schedule, Window
from vivavoce.engines.neutts.family import likely_family, likely_language
from vivavoce.engines.neutts.loading import (
    LIKING,
    capabilities,
    details,
    gpu,
    open_backbone,
    open_codec,
    rows_of,
    warmed_up,
    warn_of_unused,
    weights,
)
from vivavoce.engines.neutts.models import find_files
from vivavoce.engines.neutts.options import (
    NeuTTSOptions,
    Speakable,
    check_utterance,
    token_sampling,
    with_voices,
)
from vivavoce.engines.neutts.prompt import PromptInputs, prompt_inputs
from vivavoce.engines.neutts.schedule import (
    PrefillWork,
    StepCosts,
    WindowCosts,
    next_job,
    next_prefill,
    prompt_slice,
    steps_left,
)
from vivavoce.engines.neutts.utterance import SILENCE, NeuTTSUtterance
from vivavoce.engines.neutts.voices import ALIASES, ENGINE, ReferenceVoice, reference_of
from vivavoce.engines.neutts.watermark import Mark, WatermarkStream, load_perth
from vivavoce.engines.utterance import SilenceGuard
from vivavoce.engines.voices import openai_aliases
from vivavoce.errors import Unavailable, Unsupported, VivavoceError
from vivavoce.runtime.worker_pool import Done, WorkerPool
from vivavoce.types import Gpu, ReferenceAudio, Samples, Utterance, Voice

if TYPE_CHECKING:
    from vivavoce.engines.neutts.backbone import Backbone
    from vivavoce.engines.neutts.codec.stream import Codec

WAIT_S = 0.003
"""How long a step waits for the codec where there is nothing else to do."""


@dataclass(frozen=True, slots=True)
class _Job:
    """Work of the codec's thread for one utterance: a window to decode, or sound to mark."""

    speaking: NeuTTSUtterance
    work: Callable[[], Samples]
    opened: tuple[CodecStream, Window] | None = None


class NeuTTSEngine(Engine):
    """NeuTTS behind the engine contract; a slot is an utterance, with one row at a time.

    A step reads a slice of one prompt and makes one code for all rows; the codec decodes one
    window at a time in its own thread, that of the row whose playback would run dry first.
    """

    def __init__(
        self,
        options: NeuTTSOptions | None = None,
        backbone_of: Callable[[NeuTTSOptions], Backbone] = open_backbone,
        codec_of: Callable[[NeuTTSOptions], Codec] = open_codec,
    ) -> None:
        self.options = options or NeuTTSOptions()
        self._open = backbone_of, codec_of
        self._backbone: Backbone | None = None
        self._codec: Codec | None = None
        self._worker: WorkerPool[_Job, Samples] | None = None
        self._speakings, self._rows = dict[int, NeuTTSUtterance](), dict[int, NeuTTSUtterance]()
        self._numbers = itertools.count()
        self._costs, self._schedule = StepCosts(), Schedule()
        self._mark: Mark | None = None
        language = self.options.language or likely_language(self.options.backbone)
        family = likely_family(self.options.backbone)
        self._speakable = Speakable(family, language, ())
        self._speakable = with_voices(self._speakable, self.options, strict=False)
        self._info = self._describe()

    @property
    def info(self) -> EngineInfo:
        """Who this engine is; complete after ``load``."""
        return self._info

    @property
    def capacity(self) -> int:
        """How many utterances speak at once."""
        return rows_of(self.options) if self._backbone is None else self._backbone.capacity

    def gpu(self) -> Gpu | None:
        """The card of the backbone, or of the codec."""
        return gpu(self._backbone, self._codec)

    def check_files(self) -> None:
        """Find backbone and codec. Raises SetupError."""
        find_files(self.options)

    def load(self) -> None:
        """Find, load and warm up the parts, downloading what is a repository. Raises SetupError."""
        self.unload()  # what a load that was given up has left
        try:
            self._load()
        except BaseException:
            self.unload()
            raise

    def _load(self) -> None:
        backbone_of, codec_of = self._open
        self._backbone = backbone = backbone_of(self.options)
        backbone.load()
        warn_of_unused(self.options, backbone)
        self._codec = codec = codec_of(self.options)
        self._mark = load_perth() if self.options.watermark else None
        self._worker = WorkerPool(lambda job: job.work(), "vivavoce-codec")
        self._costs, self._schedule = warmed_up(self.options, backbone, codec)
        known = replace(self._speakable, family=backbone.family)
        self._speakable = with_voices(known, self.options, strict=True)
        self._info = self._describe()

    def unload(self) -> None:
        """Give the memory back."""
        for slot in list(self._speakings):
            self.release(slot)
        if self._worker is not None:
            self._worker.close()
        if self._codec is not None:
            self._codec.close()
        if self._backbone is not None:
            self._backbone.unload()
        self._worker = self._codec = self._backbone = None
        self._info = self._describe()

    def voices(self) -> Sequence[Voice]:
        """The voices of ``voices_dir``, the default one first; without any, "nobody"."""
        return self._speakable.voices

    def validate(self, utterance: Utterance) -> None:
        """Raise InputError for what this model cannot speak."""
        check_utterance(self._speakable, utterance)

    def clone(self, reference: ReferenceAudio) -> Voice:
        """A voice from a recording and its transcript; the encoder is loaded for it alone.

        Raises Unsupported, InvalidAudio, InputError, SetupError.
        """
        from vivavoce.engines.neutts.cloning import clone_voice

        return clone_voice(self.options, self._loaded(), self._speakable, reference)

    def voice_to_bytes(self, voice: Voice) -> bytes:
        """JSON: codes and transcript."""
        state = reference_of(voice)
        if not len(state.codes):
            raise Unsupported("Only voices with a reference can be saved.", param="voice")
        return state.to_bytes()

    def voice_from_bytes(self, data: bytes) -> ReferenceVoice:
        """The inverse. Raises ModelFileError."""
        return ReferenceVoice.from_bytes(data)

    def admit(self, utterance: Utterance) -> int:
        """Take a slot. Raises InputError as ``validate`` does, EmptyInput, ContextOverflow."""
        backbone = self._loaded()
        request = check_utterance(self._speakable, utterance)
        began_s = time.perf_counter()
        inputs = prompt_inputs(backbone, self._speakable, utterance, request)
        number = next(self._numbers)
        speaking = NeuTTSUtterance(
            number,
            utterance,
            token_sampling(self.options, utterance, request),
            deque(inputs.segments),
            inputs.most_codes,
            partial(self._new_stream, inputs),
            None if self._mark is None else WatermarkStream(self._mark),
            guarded=self.options.guards and request.guards,
            silence=SilenceGuard(SAMPLE_RATE_HZ),
        )
        speaking.add_stage_ms("phonemes", (time.perf_counter() - began_s) * 1000)
        self._speakings[number] = speaking
        return number

    def release(self, slot: int) -> None:
        """Free a slot at once; a window of it that is being decoded ends unheard."""
        speaking = self._speakings.pop(slot, None)
        if speaking is not None:
            self._take_row_from(speaking)

    def record(self, slot: int) -> list[int]:
        """A list that gets every code of a slot from now on."""
        return self._speakings[slot].record()

    def step(self) -> Sequence[Produced]:
        """Read a slice, make a code for every row, hand out the sound that has been made."""
        if self._backbone is None or self._worker is None or not self._speakings:
            return []
        self._begin_next(self._backbone)
        if self._rows:
            self._advance(self._backbone)
        self._start_window(self._worker)
        idle = not self._rows and not any(s.over for s in self._speakings.values())
        for done in self._worker.collect(WAIT_S if idle else 0.0):
            self._take_done(done)
            self._start_window(self._worker)
        produced = [self._produced(each) for each in list(self._speakings.values())]
        return [piece for piece in produced if piece is not None]

    def _begin_next(self, backbone: Backbone) -> None:
        """Give a row to the most urgent utterance that waits for one."""
        waiting = [
            (speaking.utterance.deadline_s, number)
            for number, speaking in self._speakings.items()
            if speaking.wants_row()
        ]
        if not waiting:
            return
        rows, now_s = self._rows.values(), time.monotonic()
        dry_s = (row.clock.underrun_at_s for row in rows if row.clock.has_audio)
        earliest_s = min(dry_s, default=now_s + 60.0)
        number = next_prefill(waiting, any(row.reading() for row in rows), earliest_s, now_s)
        if number is None:
            return
        speaking = self._speakings[number]
        take = speaking.maker
        assert take is not None
        try:
            take.row = backbone.admit(
                take.segment.prompt, speaking.next_sampling(), speaking.max_codes()
            )
        except VivavoceError as error:
            speaking.fail(error)
        else:
            self._rows[take.row] = speaking

    def _advance(self, backbone: Backbone) -> None:
        """One step of the backbone; its time counts for every row that was in it."""
        reading = [speaking for speaking in self._rows.values() if speaking.reading()]
        making = [speaking for speaking in self._rows.values() if not speaking.reading()]
        began_s = time.perf_counter()
        worker, before = self._worker, backbone.reading.evaluated
        emitted = backbone.step(
            codec_runs=worker is not None and not worker.free,
            busy_slice=self._slice(backbone, len(making)) if reading and making else 0,
        )
        spent_s = time.perf_counter() - began_s
        for stage, speakings in (("prefill", reading), ("tokens", making)):
            for speaking in speakings:
                speaking.add_stage_ms(stage, spent_s * 1000)
        read = backbone.reading.evaluated - before
        if not reading:
            self._costs.stepped(spent_s)
        elif making and read:
            self._costs.read(read, spent_s)
        for each in emitted:
            owner = self._rows.get(each.row)
            if owner is None:
                continue
            if each.last:
                del self._rows[each.row]
            owner.push_codes(each)
            if not each.last and owner.is_looping(each.codes):
                self._cut(owner)

    def _slice(self, backbone: Backbone, rows: int) -> int:
        """How much of a prompt to read while ``rows`` speak; CUDA reads any as quickly."""
        if self.options.backbone_device == "cuda":
            return 0
        left = backbone.reading.left
        asked = (s.demands(self._schedule, steps_left(left)) for s in self._rows.values())
        demands, work = list(itertools.chain(*asked)), PrefillWork(left, rows)
        return prompt_slice(demands, work, self._costs, time.monotonic())

    def _start_window(self, worker: WorkerPool[_Job, Samples]) -> None:
        """Let the codec's thread decode the most urgent piece that is due."""
        if not worker.free or self._start_mark(worker):
            return
        forward = self._schedule.lookforward
        states = [s for each in self._speakings.values() if (s := each.state(forward)) is not None]
        window = WindowCosts.of(self._schedule, adaptive=self.options.adaptive)
        job = next_job(states, self._costs, window, time.monotonic())
        if job is None:
            return
        speaking = self._speakings[job.key]
        take = speaking.current
        assert take is not None
        take.opened = True
        piece = take.stream.window(job.chunk)
        assert self._codec is not None
        decode = partial(self._codec.decode, piece.codes)
        worker.start(_Job(speaking, decode, (take.stream, piece)))

    def _start_mark(self, worker: WorkerPool[_Job, Samples]) -> bool:
        """Let the codec's thread mark sound that waits for it; whether there was any."""
        for speaking in self._speakings.values():
            if speaking.unmarked and speaking.watermark is not None:
                sound = speaking.unmarked.pop(0)
                speaking.marking = True
                worker.start(_Job(speaking, partial(speaking.watermark.push, sound)))
                return True
        return False

    def _take_done(self, done: Done[_Job, Samples]) -> None:
        """Sound of a window; a fault of the codec that is no fault of an utterance is raised."""
        speaking, error = done.job.speaking, done.error
        if self._speakings.get(speaking.number) is not speaking:
            return
        if isinstance(error, VivavoceError):
            speaking.fail(error)
            return
        if error is not None or done.result is None:
            raise error or RuntimeError("the codec made nothing")
        if done.job.opened is None:
            speaking.add_stage_ms("watermark", done.spent_s * 1000)
            speaking.marked(done.result)
            return
        stream, window = done.job.opened
        self._costs.decoded(len(window.codes), done.spent_s)
        speaking.add_stage_ms("codec", done.spent_s * 1000)
        samples = stream.accept(window, done.result)
        if speaking.push_audio(samples, time.monotonic()):
            self._cut(speaking)

    def _cut(self, speaking: NeuTTSUtterance) -> None:
        self._take_row_from(speaking)
        speaking.cut()

    def _take_row_from(self, speaking: NeuTTSUtterance) -> None:
        row = speaking.stop_row()
        if row is not None and self._backbone is not None:
            self._rows.pop(row, None)
            self._backbone.release(row)

    def _produced(self, speaking: NeuTTSUtterance) -> Produced | None:
        """What to hand out for an utterance now; the last of it frees the slot."""
        over = speaking.over
        if not over and not speaking.sound:
            return None
        samples = speaking.next_sound()
        last = over and not speaking.sound
        if last:
            speaking.refuse_cut()
            self.release(speaking.number)
        return Produced(
            speaking.number,
            samples if speaking.error is None else SILENCE,
            last,
            (speaking.ended or "stop") if last else None,
            speaking.error if last else None,
            MappingProxyType(speaking.drain_stages_ms()),
            speaking.drain_token_count(),
            speaking.first_token_s,
        )

    def _new_stream(self, inputs: PromptInputs) -> CodecStream:
        assert self._codec is not None
        return CodecStream(self._codec, inputs.reference_codes, self._schedule)

    def _loaded(self) -> Backbone:
        if self._backbone is None:
            raise Unavailable("The model is not loaded.")
        return self._backbone

    def _describe(self) -> EngineInfo:
        known, parts = self._speakable, (self._backbone, self._codec)
        return EngineInfo(
            ENGINE,
            self.options.backbone,
            SAMPLE_RATE_HZ,
            capabilities(self.options, known.family),
            (known.language,),
            self.options.backbone_device if self._backbone is None else self._backbone.device,
            known.voices[0].id,
            openai_aliases(known.voices, ALIASES),
            MappingProxyType(details(self.options, known.family, *parts, self._schedule.chunks)),
            weights=weights(*parts),
            text=LIKING,
            own_length_option="max_codes",
        )
