"""The Qwen3-TTS engine: every step advances all rows by one frame of 80 ms."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from vivavoce.engines.base import Engine, EngineInfo, Produced
from vivavoce.engines.qwen3.config import Qwen3Config
from vivavoce.engines.qwen3.info import (
    LIKING,
    capabilities,
    config_at_hand,
    details_of,
    find_checkpoint,
)
from vivavoce.engines.qwen3.loading import Loading
from vivavoce.engines.qwen3.options import Qwen3Options, check_described, check_utterance, rows_of
from vivavoce.engines.qwen3.pace import ChunkRamp, Pace
from vivavoce.engines.qwen3.pipeline import Pipeline, timed
from vivavoce.engines.qwen3.row_speech import SAMPLE_RATE_HZ, FrameCodes, RowSpeech
from vivavoce.engines.qwen3.scheduler import Phase, Scheduler
from vivavoce.engines.qwen3.voices import (
    ALIASES,
    ENGINE,
    ClonedVoice,
    builtin_voices,
    cloned,
    known_languages,
    language_codes,
)
from vivavoce.engines.voices import clone_id, default_first, openai_aliases
from vivavoce.errors import (
    EmptyInput,
    EngineError,
    InputError,
    Unavailable,
    Unsupported,
    VivavoceError,
)
from vivavoce.runtime import cuda
from vivavoce.runtime.cuda import torch_gpu
from vivavoce.runtime.device_errors import NoDeviceMemory, twice
from vivavoce.types import Gpu, ReferenceAudio, Utterance, Voice

if TYPE_CHECKING:
    from vivavoce.engines.qwen3.batch import Batch, Frame
    from vivavoce.engines.qwen3.graphs import Capturing
    from vivavoce.engines.qwen3.model import Model
    from vivavoce.engines.qwen3.prefill import Readings

STARVED_S = 0.002
"""How long a step waits when every row waits for text."""


class Qwen3Engine(Engine):
    """A published Qwen3-TTS checkpoint behind the engine contract; a slot is a row.

    A step reads a piece of at most one waiting row's prompt, advances all rows by one frame, and
    makes sound of the rows whose next chunk is whole. Where frames are captured, a step launches
    one and reads the one before, and sound arrives while later frames are made; the first sound of
    a call is made before the next frame. Where the GPU has no memory for a call, that call fails.
    """

    def __init__(
        self, options: Qwen3Options | None = None, capturing: Capturing | None = None
    ) -> None:
        """``capturing`` replaces what the device itself captures with."""
        self.options = options or Qwen3Options()
        self._config = config_at_hand(self.options)
        self._model: Model | None = None
        self._batch: Batch | None = None
        self._rows = Scheduler(rows_of(self.options, "cpu"))
        self._speeches: dict[int, RowSpeech] = {}
        self._readings: Readings | None = None
        self._capturing = capturing
        self._loading: Loading | None = None
        self._pace = Pace(self._rows.rows)
        self._pipeline = Pipeline()
        self._cloning = threading.Lock()  # there is memory for one at a time
        self._listed: tuple[Voice, ...] = ()
        self._info = self._describe()

    @property
    def info(self) -> EngineInfo:
        """Who this engine is; complete after ``load``. Captures as of now."""
        if self._model is None or self._batch is None:
            return self._info
        details = {**self._info.details, **self._batch.details()}
        return replace(self._info, details=MappingProxyType(details))

    def gpu(self) -> Gpu | None:
        """The CUDA device it runs on."""
        return None if self._model is None else torch_gpu(self._model.place.device)

    @property
    def capacity(self) -> int:
        """How many rows there are."""
        return self._rows.rows

    def check_files(self) -> None:
        """Find the checkpoint, and read its voices. Raises SetupError."""
        self._config = Qwen3Config.load(find_checkpoint(self.options))
        self._info = self._describe()

    def load(self) -> None:
        """Read the checkpoint, downloading it where ``model`` is a name.

        Raises SetupError, with the sum, for rows that do not fit into the GPU's memory: before
        any of it is taken, or where others took it meanwhile. What fails gives back what it took.
        """
        from vivavoce.engines.qwen3.prefill import Readings

        loading = self._loading = Loading(self.options, self._capturing)
        try:
            self._model, self._batch, self._pace = loading.run()
            self._config, self._rows = self._model.config, Scheduler(self._pace.rows)
            self._readings = Readings(self._model, self._batch, self.options)
            self._info = self._describe()
        except BaseException:
            self.unload()
            raise

    def unload(self) -> None:
        """Give the memory back."""
        self._speeches.clear()
        self._readings = None
        self._pipeline.settle()
        loading, self._loading, self._model, self._batch = self._loading, None, None, None
        if loading is not None:
            loading.give_back()
            self._info = self._describe()

    def voices(self) -> Sequence[Voice]:
        """The speakers (CustomVoice), "design" (VoiceDesign), or "neutral" (Base)."""
        return self._listed

    def validate(self, utterance: Utterance) -> None:
        """Raise InputError for what this model cannot speak."""
        config = self._known()
        check_utterance(config, utterance, self._listed)
        check_described(config, utterance)

    def clone(self, reference: ReferenceAudio) -> Voice:
        """A voice from 1 to 60 s; with a transcript the recording itself is continued.

        Raises Unsupported where the model is no Base model, InvalidAudio, InputError, and
        NoDeviceMemory.
        """
        if self._known().kind != "base":
            raise Unsupported("Only a Base model can clone voices.", param="voice")
        from vivavoce.engines.qwen3.cloning import clone_voice

        model, silence_s = self._loaded(), self.options.reference_silence_s
        with self._cloning:
            voice = twice(
                lambda: clone_voice(model, reference, silence_s),
                lambda: cuda.empty_cache(model.place.device),
            )
        codes = language_codes(known_languages(self._known().talker.codec_language_id))
        id_ = clone_id(voice.digest())
        return Voice(id_, ENGINE, id_, codes, kind="cloned", data=voice)

    def voice_to_bytes(self, voice: Voice) -> bytes:
        """A safetensors file."""
        state = cloned(voice)
        if state is None:
            raise Unsupported("Only cloned voices can be saved.", param="voice")
        return state.to_bytes()

    def voice_from_bytes(self, data: bytes) -> ClonedVoice:
        """The inverse. Raises ModelFileError."""
        return ClonedVoice.from_bytes(data)

    def admit(self, utterance: Utterance) -> int:
        """Take the lowest free row. Raises InputError as ``validate`` does, and EmptyInput."""
        request = check_utterance(self._known(), utterance, self._listed)
        speech = RowSpeech.start(
            utterance, request, self._loaded().tokenizer, guarded=self.options.guards
        )
        if speech.closed and not speech.ids:
            raise EmptyInput
        speech.ramp = ChunkRamp(self._pace.ramp)
        row = self._rows.take(utterance.deadline_s, has_text=bool(speech.ids))
        self._speeches[row] = speech
        return row

    def extend(self, slot: int, text: str) -> None:
        """Append text; the last word is held back until it is whole."""
        speech = self._speeches[slot]
        self._spread(slot, speech, speech.add(text))

    def finish(self, slot: int) -> None:
        """No more text."""
        speech = self._speeches[slot]
        if speech.closed:
            return
        self._spread(slot, speech, speech.close())
        if not speech.ids:
            speech.end("stop")
        elif self._began(slot):
            self._told(slot, speech)
            self._rows.got_text(slot)

    def release(self, slot: int) -> None:
        """Free a row at once."""
        self._free(slot)

    def record(self, slot: int) -> list[FrameCodes]:
        """A list that gets the codes (int64 [16]) of every frame of a slot from now on."""
        speech = self._speeches[slot]
        return speech.record()

    def step(self) -> Sequence[Produced]:
        """Advance all rows by one frame."""
        if self._batch is None or self._readings is None or not self._speeches:
            return []
        read = self._begin_next(self._readings)
        self._first_sound(self._batch)
        moved = self._advance(self._batch)
        self._sound(self._batch)
        produced = [piece for row in self._rows.taken if (piece := self._produced(row))]
        if not read and not moved and not produced:
            time.sleep(STARVED_S)
        return produced

    def _begin_next(self, readings: Readings) -> bool:
        """Read a piece of the most urgent prompt; whether there was one."""
        row = self._rows.next_prefill()
        if row is None:
            return False
        speech = self._speeches[row]
        with timed([speech], "prefill"):
            try:
                if not readings.advance(row, speech):
                    return True
            except VivavoceError as error:
                speech.fail(error)
        readings.forget(row)
        self._rows.began(row)
        return True

    def _first_sound(self, batch: Batch) -> None:
        """Somebody's first frame on its way is waited for, and decoded before the next is made."""
        if not self._pipeline.urgent:
            return
        waiting = {row: speech for row, speech in self._speeches.items() if not speech.sent}
        with timed([*waiting.values()], "frame"):
            frame = self._pipeline.result()
        if frame is not None:
            self._note_all(frame)
        self._pipeline.decode(batch, self._due(waiting), waiting, urgent=True)

    def _advance(self, batch: Batch) -> bool:
        """Launch a frame, and note one that landed; whether there was either."""
        rows = [row for row in self._rows.speaking() if self._speeches[row].ended is None]
        speeches = [self._speeches[row] for row in rows]
        urgent = any(not speech.frames for speech in speeches)
        with timed(speeches, "frame"):
            try:
                frame = self._pipeline.frame(batch, max(rows, default=-1) + 1, urgent=urgent)
            except NoDeviceMemory as error:  # one call less may be what there is memory for
                self._speeches[self._rows.last_come(rows)].fail(error)
                frame = self._pipeline.result()
        if frame is None:
            return bool(rows)
        self._note_all(frame)
        return True

    def _note_all(self, frame: Frame) -> None:
        for row in range(len(frame.status)):
            speech = self._speeches.get(row)
            if speech is not None and speech.ended is None:
                self._note(row, speech, frame)

    def _note(self, row: int, speech: RowSpeech, frame: Frame) -> None:
        from vivavoce.runtime.kernels.frame_ends import Status

        status = frame.status[row]
        if Status.FAILED in status:
            speech.fail(EngineError("The model gave numbers that are not finite."))
        if Status.EMITTED in status:
            self._take(speech, frame.codes[row])
        if Status.ENDED in status:
            speech.end("stop")
        if Status.LIMIT in status:
            speech.end("length")
        if Status.WAITING in status:
            self._rows.stalled(row)

    def _take(self, speech: RowSpeech, codes: FrameCodes) -> None:
        """A frame; a code outside the codebook must never reach the codec."""
        size = self._known().codec.decoder.codebook_size
        if codes.min() < 0 or codes.max() >= size:
            speech.fail(EngineError("The model gave a code outside of the codebook."))
        else:
            speech.push_frame(codes)

    def _sound(self, batch: Batch) -> None:
        """Decode the chunks that are whole, and hear what has arrived."""
        self._pipeline.decode(batch, self._due(self._speeches), self._speeches)
        self._pipeline.hear()

    def _due(self, speeches: Mapping[int, RowSpeech]) -> dict[int, int]:
        """How many frames of each row become sound now."""
        return {
            row: speech.chunk(stalled=self._rows.phase(row) is Phase.STALLED)
            for row, speech in speeches.items()
        }

    def _produced(self, row: int) -> Produced | None:
        """What to hand out for a row now; the last of it frees the row."""
        speech = self._speeches[row]
        samples, last = speech.pop_sound(), speech.over
        if not last and not len(samples):
            return None
        if last:
            self._free(row)
        return Produced(
            row,
            samples,
            last,
            speech.ended if last else None,
            speech.error,
            MappingProxyType(speech.drain_stages_ms()),
            speech.drain_token_count(),
            speech.first_token_s,
        )

    def _free(self, row: int) -> None:
        speech = self._speeches.pop(row, None)
        if speech is None:
            return
        if self._readings is not None:
            self._readings.forget(row)
        began = self._rows.phase(row) in (Phase.SPEAKING, Phase.STALLED)
        self._rows.free(row)
        if began and self._batch is not None:
            self._batch.release(row, failed=speech.error is not None)
        if not self._speeches:
            self._pipeline.settle()

    def _spread(self, row: int, speech: RowSpeech, ids: list[int]) -> None:
        """Newly settled tokens go to the device once the row has begun."""
        if not ids:
            return
        if self._began(row) and self._batch is not None:
            try:
                self._batch.extend(row, ids)
            except (InputError, NoDeviceMemory) as error:
                speech.fail(error)
        self._rows.got_text(row)

    def _told(self, row: int, speech: RowSpeech) -> None:
        assert self._batch is not None
        try:
            self._batch.finish(row)
        except (InputError, NoDeviceMemory) as error:
            speech.fail(error)

    def _began(self, row: int) -> bool:
        return self._rows.phase(row) in (Phase.SPEAKING, Phase.STALLED)

    def _describe(self) -> EngineInfo:
        """What is known now. Raises SettingsError for a default voice that is not there."""
        model, config = self._model, self._config
        names = () if config is None else known_languages(config.talker.codec_language_id)
        if config is not None:
            self._listed = default_first(builtin_voices(config), self.options.voice, ALIASES)
        return EngineInfo(
            name=ENGINE,
            model=Path(self.options.model).name,
            sample_rate_hz=SAMPLE_RATE_HZ,
            capabilities=capabilities(config),
            languages=language_codes(names),
            device="cpu" if model is None else str(model.place.device),
            default_voice=self._listed[0].id if self._listed else "",
            voice_aliases=openai_aliases(self._listed, ALIASES),
            details=MappingProxyType(
                details_of(config, model, self._batch, self.capacity, self.options.positions)
            ),
            weights={} if model is None else model.place.weights(),
            text=LIKING,
            own_length_option="max_frames",
        )

    def _known(self) -> Qwen3Config:
        if self._config is None:
            raise Unavailable("The model is not loaded.")
        return self._config

    def _loaded(self) -> Model:
        if self._model is None:
            raise Unavailable("The model is not loaded.")
        return self._model
