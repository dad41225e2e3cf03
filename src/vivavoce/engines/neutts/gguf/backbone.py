"""NeuTTS on llama.cpp: several rows in one context, joining and leaving between tokens.

Every step evaluates a token of each speaking row in one batch, so that the weights are read once
for all of them, and then slices of the prompts that wait, each by itself: mixed into one batch, a
row's scores would depend on who else is there. While somebody speaks the slice is short, and every
speaking row goes on in every step.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vivavoce.engines.neutts.backbone import (
    PREFILL_SLICE,
    Codes,
    Emitted,
    Prompt,
    Reading,
    TokenSampling,
)
from vivavoce.engines.neutts.family import Family
from vivavoce.engines.neutts.gguf.llama_context import SHORTEST, ContextShape, LlamaContext
from vivavoce.engines.neutts.gguf.llama_library import check_device, used_gpu
from vivavoce.engines.neutts.gguf.llama_model import LlamaModel
from vivavoce.engines.neutts.gguf.pruned_cache import pruned_copy
from vivavoce.engines.neutts.gguf.row_map import RowMap
from vivavoce.engines.neutts.gguf.rows import Row, Rows
from vivavoce.engines.neutts.gguf.sampler import CHOICES, END, RowSampler
from vivavoce.engines.neutts.gguf.templates import Templates
from vivavoce.engines.neutts.gguf.threads import (
    DecodeThreads,
    Threads,
    default_threads,
)
from vivavoce.engines.neutts.gguf.vocabulary import GgufVocabulary
from vivavoce.errors import ContextOverflow, EngineError, InputError, ModelFileError, SettingsError
from vivavoce.runtime.machine import usable_cores
from vivavoce.types import FinishReason, Gpu, WeightsFormat

log = logging.getLogger(__name__)

BUSY_PREFILL_SLICE = 16
GROUP = 4
"""llama.cpp multiplies so many tokens at once, and a rest one by one."""

SMALLEST_ROOM = 2 * SHORTEST - 1
"""With less, equal slices could end in a single token."""

NOTHING: Codes = np.zeros(0, np.int32)


@dataclass(frozen=True, slots=True)
class GgufSettings:
    """How a GGUF backbone runs.

    ``context_tokens`` is the room of one row. ``threads`` None: by the number of cores.
    ``gpu_layers`` 0 is the CPU, -1 all layers. ``prune`` evaluates a copy without unused rows,
    kept beside the model or in ``cache_folder``. ``busy_slice`` is how much of a prompt is
    evaluated per step while other rows speak. ``template_tokens`` are kept evaluated for voices.
    ``exact`` keeps keys and values in float32. ``flash_attention`` on a CPU: see ``ContextShape``;
    layers on a GPU have llama.cpp's choice.
    """

    context_tokens: int = 2048
    capacity: int = 4
    threads: Threads | None = None
    gpu_layers: int = 0
    prune: bool = True
    cache_folder: Path | None = None
    busy_slice: int = BUSY_PREFILL_SLICE
    template_tokens: int = 4096
    exact: bool = False
    flash_attention: bool = False

    def __post_init__(self) -> None:
        if min(self.context_tokens, self.capacity, self.busy_slice) < 1:
            raise SettingsError("Context, capacity and prefill slice must be at least 1.")


@dataclass(frozen=True, slots=True, eq=False)
class _Loaded:
    """What exists between ``load`` and ``unload``; ``closing`` gives it back."""

    vocabulary: GgufVocabulary
    map: RowMap
    context: LlamaContext
    rows: Rows
    templates: Templates
    evaluated: Path
    format: str
    closing: ExitStack


class GgufBackbone:
    """The ``Backbone`` of a GGUF file."""

    def __init__(self, path: Path | str, settings: GgufSettings | None = None) -> None:
        self._path = Path(path)
        self._settings = settings or GgufSettings()
        self._threads = self._settings.threads or default_threads(usable_cores())
        self._decode_threads = DecodeThreads(self._threads)
        self._evaluated = 0
        self._device = "cpu"
        self._loaded: _Loaded | None = None
        self._scores = np.zeros(CHOICES, np.float32)

    @property
    def device(self) -> str:
        """Where it really runs; known after ``load``."""
        return self._device

    @property
    def family(self) -> Family:
        """Which model it is; known after ``load``."""
        return self._open.vocabulary.family

    @property
    def vocabulary(self) -> GgufVocabulary:
        """The model's tokens; known after ``load``."""
        return self._open.vocabulary

    @property
    def context_tokens(self) -> int:
        """Room of one row, prompt and codes together."""
        return self._settings.context_tokens

    @property
    def capacity(self) -> int:
        """How many rows can be live at once."""
        return self._settings.capacity

    @property
    def reading(self) -> Reading:
        """How far the prompts of all rows are read."""
        waiting = self._loaded.rows.reading() if self._loaded else []
        return Reading(self._evaluated, sum(len(row.prompt) - row.done for row in waiting))

    @property
    def evaluated_file(self) -> Path:
        """The file whose weights are in use: the pruned copy, or the model itself."""
        return self._open.evaluated

    @property
    def details(self) -> Mapping[str, Any]:
        """What is in use, for health reports; known after ``load``."""
        return {
            "runtime": "llama.cpp",
            "file": self._open.evaluated.name,
            "vocabulary_rows": self._open.map.size,
            "decode_threads": self._threads.decode,
            "most_decode_threads": max(self._threads.decode, self._threads.decode_most),
            "prefill_threads": self._threads.prefill,
        }

    @property
    def gpu(self) -> Gpu | None:
        """The card that llama.cpp uses, with its memory as it is now."""
        return None if self._device == "cpu" else used_gpu()

    @property
    def weights(self) -> WeightsFormat:
        """As the file has them."""
        return WeightsFormat(self._open.format, "as the file has them")

    def load(self) -> None:
        """Open the model and its vocabulary, pruned first where that is not done yet.

        Raises SettingsError for a device that is not there, ModelFileError for a file that
        cannot be used, MissingExtra.
        """
        if self._loaded is not None:
            return
        if not self._path.is_file():
            raise ModelFileError(f"There is no file {self._path}.")
        self._device = check_device(self._settings.gpu_layers)
        with ExitStack() as closing:
            vocabulary = GgufVocabulary(self._path)
            closing.callback(vocabulary.close)
            evaluated = self._prune(vocabulary)
            model = LlamaModel(evaluated, gpu_layers=self._settings.gpu_layers)
            closing.callback(model.close)
            context = LlamaContext(model, self._shape())
            closing.callback(context.close)
            self._loaded = _Loaded(
                vocabulary,
                RowMap(vocabulary, evaluated),
                context,
                Rows(context, self.capacity),
                Templates(context, self._settings.template_tokens),
                evaluated,
                model.format,
                closing.pop_all(),
            )

    def unload(self) -> None:
        """Release all rows and give the memory back."""
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            loaded.closing.close()

    def admit(self, prompt: Prompt, sampling: TokenSampling, max_tokens: int) -> int:
        """Take a row. Nothing is computed yet.

        Raises ContextOverflow where prompt + 1 > ``context_tokens``, InputError for a prompt
        without tokens or with unknown ones, EngineError where no row is free.
        """
        if max_tokens < 1:
            raise InputError("At least one token must be asked for.")
        free = self._open.rows.free()
        if free is None:
            raise EngineError(f"All {self.capacity} rows are taken.")
        template = self._open.map.rows(prompt.ids[: prompt.shared_prefix])
        rest = self._open.map.rows(prompt.ids[prompt.shared_prefix :])
        rows = np.concatenate((template, rest))
        if not len(rows):
            raise InputError("The prompt is empty.")
        room = self.context_tokens - len(rows)
        if room < 1:
            raise ContextOverflow(len(rows), self.context_tokens)
        shared = min(len(template), len(rows) - 1)
        self._open.rows.add(free, rows, shared, RowSampler(sampling), min(max_tokens, room))
        return free

    def release(self, row: int) -> None:
        """Free a row at once, whatever it is doing. Unknown rows are ignored."""
        if self._loaded is not None:
            self._loaded.rows.remove(row)

    def step(self, *, codec_runs: bool = False, busy_slice: int = 0) -> Sequence[Emitted]:
        """One token for every speaking row and a slice of the waiting prompts."""
        rows = self._open.rows
        speaking, waiting = rows.speaking(), rows.reading()
        busy = min(busy_slice or self._settings.busy_slice, PREFILL_SLICE)
        emitted = self._speak(speaking, codec_runs=codec_runs) if speaking else []
        beside = bool(speaking) and codec_runs
        self._open.context.set_threads(self._threads.decode if beside else self._threads.prefill)
        return emitted + self._read(waiting, busy if speaking else PREFILL_SLICE)

    def _speak(self, rows: Sequence[Row], *, codec_runs: bool) -> list[Emitted]:
        """The next token of rows whose prompt is read."""
        context, choice = self._open.context, self._decode_threads
        context.batch.clear()
        places = [self._add_token(row) for row in rows]
        context.set_threads(choice.choose(len(rows), codec_runs=codec_runs))
        began_s = time.perf_counter()
        context.decode()
        choice.took(len(rows), time.perf_counter() - began_s, codec_runs=codec_runs)
        return [self._draw(row, place) for row, place in zip(rows, places, strict=True)]

    def _add_token(self, row: Row) -> int:
        """Put a row's last token into the batch; its place there."""
        assert row.last is not None
        row.done += 1
        return self._open.context.batch.add(row.last, row.done - 1, row.sequence, scores=True)

    def _read(self, rows: Sequence[Row], room: int) -> list[Emitted]:
        """About ``room`` tokens of prompts, the first come first."""
        room, emitted = max(room, SMALLEST_ROOM), list[Emitted]()
        for row in rows:
            while row.last is None and row.number in self._open.rows and room >= SMALLEST_ROOM:
                before = self._evaluated
                emitted += self._read_slice(row, room)
                room -= self._evaluated - before
        return emitted

    def _read_slice(self, row: Row, room: int) -> list[Emitted]:
        """The next part of one prompt; its first token where that ends the prompt."""
        context, templates = self._open.context, self._open.templates
        if not row.done:
            row.done = templates.give(row.template, row.sequence)
        end = row.done + even_slice(row.next_stop - row.done, room)
        whole = end == len(row.prompt)
        context.batch.clear()
        tokens = row.prompt[row.done : end]
        place = context.batch.add(tokens, row.done, row.sequence, scores=whole)
        context.decode()
        self._evaluated += len(tokens)
        row.done = end
        if row.done == row.shared:
            templates.keep(row.template, row.sequence, row.shared)
        return [self._draw(row, place)] if whole else []

    @property
    def _open(self) -> _Loaded:
        if self._loaded is None:
            raise EngineError("The backbone is not loaded.")
        return self._loaded

    def _prune(self, vocabulary: GgufVocabulary) -> Path:
        if not self._settings.prune:
            return self._path
        needed = np.array([*vocabulary.header_ids, *vocabulary.middle_ids], np.int32)
        layout = vocabulary.family.layout
        return pruned_copy(self._path, layout, needed, self._settings.cache_folder)

    def _shape(self) -> ContextShape:
        settings = self._settings
        return ContextShape(
            tokens=settings.context_tokens,
            sequences=settings.capacity,
            batch_tokens=max(PREFILL_SLICE, settings.capacity),
            exact=settings.exact,
            flash_attention=-1 if settings.gpu_layers else int(settings.flash_attention),
        )

    def _draw(self, row: Row, place: int) -> Emitted:
        """Draw what follows a row's last token."""
        loaded = self._open
        loaded.map.gather(loaded.context.scores(place), self._scores)
        try:
            choice = row.sampler.choose(self._scores)
        except EngineError as error:
            log.error("%s", error)
            return self._finish(row, NOTHING, "error")
        if choice == END:
            return self._finish(row, NOTHING, "stop")
        code = np.array([choice - 1], np.int32)
        row.made += 1
        if row.made >= row.limit:
            return self._finish(row, code, "length")
        row.last = loaded.map.speech_rows(code)
        return Emitted(row.number, code, last=False, reason=None)

    def _finish(self, row: Row, codes: Codes, reason: FinishReason) -> Emitted:
        self.release(row.number)
        return Emitted(row.number, codes, last=True, reason=reason)


def even_slice(left: int, most: int) -> int:
    """The next of nearly equal slices of at most ``most`` tokens, of ``left`` that are to be read.

    So no short rest is left, which costs more a token; and never a single one, which is added up
    otherwise (``most`` is at least ``SMALLEST_ROOM``). All but the last are whole groups of tokens
    where ``most`` has room for them.
    """
    even = -(-left // -(-left // most))
    whole = -(-even // GROUP) * GROUP
    return whole if whole <= most and left - whole >= SHORTEST else even
