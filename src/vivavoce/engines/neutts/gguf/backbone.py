"""NeuTTS on llama.cpp: several rows in one context, joining and leaving between tokens.

Every step evaluates one batch: a token of each speaking row and a slice of the prompts that wait,
so that the weights are read once for all of them. While somebody speaks the slice is short, and
every speaking row goes on in every step.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
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
from vivavoce.engines.neutts.gguf.kept_tokens import Ids
from vivavoce.engines.neutts.gguf.llama_context import ContextShape, LlamaContext
from vivavoce.engines.neutts.gguf.llama_library import check_device
from vivavoce.engines.neutts.gguf.llama_model import LlamaModel
from vivavoce.engines.neutts.gguf.pruned_cache import pruned_copy
from vivavoce.engines.neutts.gguf.row_map import RowMap
from vivavoce.engines.neutts.gguf.sampler import CHOICES, END, RowSampler
from vivavoce.engines.neutts.gguf.templates import Templates
from vivavoce.engines.neutts.gguf.threads import (
    DecodeThreads,
    Threads,
    default_threads,
    usable_cores,
)
from vivavoce.engines.neutts.gguf.vocabulary import GgufVocabulary
from vivavoce.errors import ContextOverflow, EngineError, InputError, ModelFileError, SettingsError
from vivavoce.types import FinishReason

log = logging.getLogger(__name__)

BUSY_PREFILL_SLICE = 16
IDLE_PREFILL_SLICE = 256
"""While nobody speaks and no sound is made, so that nobody waits for its end."""

TEMPLATES = 16
NOTHING: Codes = np.zeros(0, np.int32)


@dataclass(frozen=True, slots=True)
class GgufSettings:
    """How a GGUF backbone runs.

    ``context_tokens`` is the room of one row. ``threads`` None: by the number of cores.
    ``gpu_layers`` 0 is the CPU, -1 all layers. ``prune`` evaluates a copy without unused rows,
    kept beside the model or in ``cache_folder``. ``busy_slice`` is how much of a prompt is
    evaluated per step while other rows speak. ``template_tokens`` are kept evaluated for voices.
    ``exact`` keeps keys and values in float32 and does without flash attention, with which scores
    depend a little (0.01) on how a prompt is sliced.
    """

    context_tokens: int = 2048
    capacity: int = 4
    threads: Threads | None = None
    gpu_layers: int = 0
    prune: bool = True
    cache_folder: Path | None = None
    busy_slice: int = BUSY_PREFILL_SLICE
    template_tokens: int = 1024
    exact: bool = False

    def __post_init__(self) -> None:
        if min(self.context_tokens, self.capacity, self.busy_slice) < 1:
            raise SettingsError("Context, capacity and prefill slice must be at least 1.")


@dataclass(slots=True, eq=False)
class _Row:
    """One prompt on its way. ``prompt`` are rows of the model, ``done`` counts evaluated tokens."""

    number: int
    prompt: Ids
    shared: int
    sampler: RowSampler
    limit: int
    order: int
    done: int = 0
    made: int = 0
    last: Ids | None = None
    """The token drawn last, not evaluated yet; None until the prompt is."""

    @property
    def template(self) -> bytes:
        """What the voice's template is known by."""
        return self.prompt[: self.shared].tobytes()


@dataclass(frozen=True, slots=True, eq=False)
class _Loaded:
    """What exists between ``load`` and ``unload``; ``closing`` gives it back."""

    vocabulary: GgufVocabulary
    map: RowMap
    context: LlamaContext
    templates: Templates
    evaluated: Path
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
        self._rows: dict[int, _Row] = {}
        self._orders = count()
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
        waiting = [row for row in self._rows.values() if row.last is None]
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
                Templates(context, self._template_sequences(), self._settings.template_tokens),
                evaluated,
                closing.pop_all(),
            )

    def unload(self) -> None:
        """Release all rows and give the memory back."""
        self._rows.clear()
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
        free = next((row for row in range(self.capacity) if row not in self._rows), None)
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
        limit, order = min(max_tokens, room), next(self._orders)
        self._rows[free] = _Row(free, rows, shared, RowSampler(sampling), limit, order)
        return free

    def release(self, row: int) -> None:
        """Free a row at once, whatever it is doing. Unknown rows are ignored."""
        if self._rows.pop(row, None) is not None:
            self._open.context.clear(row)

    def step(self, *, codec_runs: bool = False, busy_slice: int = 0) -> Sequence[Emitted]:
        """One token for every speaking row and a slice of the waiting prompts."""
        if not self._rows:
            return []
        context = self._open.context
        context.batch.clear()
        speaking = [(row, row.last) for row in self._rows.values() if row.last is not None]
        asking = [(row, self._add_token(row, last)) for row, last in speaking]
        idle = PREFILL_SLICE if codec_runs else IDLE_PREFILL_SLICE
        busy = min(busy_slice or self._settings.busy_slice, PREFILL_SLICE)
        asking += self._add_prompts(busy if speaking else idle)
        self._evaluate(len(speaking), codec_runs)
        self._keep_templates()
        return [self._advance(row, place) for row, place in asking]

    def _evaluate(self, speaking: int, codec_runs: bool) -> None:
        """Evaluate the batch, in which ``speaking`` rows have a token."""
        context, choice = self._open.context, self._decode_threads
        if not speaking:
            context.set_threads(self._threads.prefill)
            context.decode()
            return
        context.set_threads(choice.choose(speaking, codec_runs=codec_runs))
        began_s = time.perf_counter()
        context.decode()
        if context.batch.size == speaking:
            choice.took(speaking, time.perf_counter() - began_s, codec_runs=codec_runs)

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
            cells=settings.context_tokens * settings.capacity + settings.template_tokens,
            sequences=settings.capacity + TEMPLATES,
            batch_tokens=IDLE_PREFILL_SLICE + settings.capacity,
            exact=settings.exact,
            flash_attention=0 if settings.exact else -1 if settings.gpu_layers else 1,
        )

    def _template_sequences(self) -> range:
        return range(self.capacity, self.capacity + TEMPLATES)

    def _add_token(self, row: _Row, token: Ids) -> int:
        """Put a speaking row's last token into the batch; its place there."""
        place = self._open.context.batch.add(token, row.done, row.number, scores=True)
        row.done += 1
        return place

    def _add_prompts(self, room: int) -> list[tuple[_Row, int]]:
        """Fill the slice in the order of arrival; rows whose prompt ends in it, with places."""
        loaded, ended = self._open, []
        waiting = [row for row in self._rows.values() if row.last is None]
        for row in sorted(waiting, key=lambda row: row.order):
            if not room:
                break
            if not row.done:
                row.done = loaded.templates.fork(row.template, row.number)
            start = row.done
            row.done += even_slice(len(row.prompt) - start, room)
            room -= row.done - start
            self._evaluated += row.done - start
            whole = row.done == len(row.prompt)
            tokens = row.prompt[start : row.done]
            place = loaded.context.batch.add(tokens, start, row.number, scores=whole)
            if not whole:
                break
            ended.append((row, place))
        return ended

    def _keep_templates(self) -> None:
        for row in self._rows.values():
            if row.shared and row.last is None and row.done >= row.shared:
                self._open.templates.keep(row.template, row.number, row.shared)

    def _advance(self, row: _Row, place: int) -> Emitted:
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

    def _finish(self, row: _Row, codes: Codes, reason: FinishReason) -> Emitted:
        self.release(row.number)
        return Emitted(row.number, codes, last=True, reason=reason)


def even_slice(left: int, most: int) -> int:
    """The next of equal slices of at most ``most`` tokens, of ``left`` that are to be read.

    A short rest costs more a token than long slices do: attention goes another way below 64.
    """
    return -(-left // -(-left // most))
