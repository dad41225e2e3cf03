"""A NeuTTS backbone in PyTorch: rows join and leave between tokens (contract in ``neutts``)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vivavoce.engines.neutts.backbone import (
    SPEECH_CODES,
    Codes,
    Emitted,
    Prompt,
    Reading,
    TokenSampling,
)
from vivavoce.engines.neutts.family import Family
from vivavoce.engines.neutts.torch_checkpoint import Choices, Loaded, load_model, open_weights
from vivavoce.engines.neutts.torch_config import TorchVocabulary, load_vocabulary
from vivavoce.engines.neutts.torch_plan import TorchLmOptions, plan_device
from vivavoce.engines.neutts.torch_rows import END, FAULT, IDLE, Runner
from vivavoce.errors import ContextOverflow, EngineError, InputError
from vivavoce.runtime.cuda import empty_cache, torch_gpu
from vivavoce.runtime.graphs.api import GraphApi
from vivavoce.runtime.graphs.cuda import CudaGraphs
from vivavoce.runtime.graphs.transfer import Outbox
from vivavoce.runtime.nn.decoder import ATTENTION
from vivavoce.runtime.nn.sampling import is_wide
from vivavoce.types import FinishReason, Gpu, WeightsFormat

NO_CODES: Codes = np.empty(0, np.int32)


@dataclass(slots=True)
class _Row:
    """One live row. ``evaluated`` prompt tokens are done; ``asked`` tokens are on their way."""

    owner: int
    prompt: Prompt
    sampling: TokenSampling
    limit: int
    evaluated: int = 0
    speaking: bool = False
    asked: int = 0
    made: int = 0

    @property
    def running(self) -> bool:
        """Whether another token of it should be asked for."""
        return self.speaking and self.asked < self.limit

    @property
    def last(self) -> int:
        """How many prompt tokens are evaluated before the row speaks: all but the last."""
        return len(self.prompt.ids) - 1

    @property
    def template(self) -> tuple[int, ...]:
        """What is kept of the prompt for others."""
        return self.prompt.ids[: min(self.prompt.shared_prefix, self.last)]

    @property
    def position(self) -> int:
        """Where the next token goes."""
        return self.last + self.asked


class TorchBackbone:
    """Runs the checkpoint in ``folder`` (Hugging Face layout).

    On a GPU ``step`` returns what the step before it drew, so that the device never waits.
    What cannot be captured there runs as it is. ``graphs`` captures in place of CUDA.
    """

    def __init__(
        self, folder: Path, options: TorchLmOptions | None = None, graphs: GraphApi | None = None
    ) -> None:
        self._folder = Path(folder)
        self._options = options or TorchLmOptions()
        self._plan = plan_device(self._options)
        self._graphs = graphs
        self._outbox = Outbox(self._plan.device)
        self._lag = int(self._plan.device.type == "cuda")
        self._rows: dict[int, _Row] = {}
        self._waiting: list[int] = []
        self._owners = 0
        self._evaluated = 0
        self._context = self._options.context_tokens
        self._vocabulary: TorchVocabulary | None = None
        self._runner: Runner | None = None
        self._details: dict[str, Any] = {}

    @property
    def device(self) -> str:
        """Where it really runs: "cpu", "cuda:0"."""
        return self._plan.name

    @property
    def family(self) -> Family:
        """Which model it is. Raises EngineError before ``load``."""
        return self.vocabulary.family

    @property
    def vocabulary(self) -> TorchVocabulary:
        """The model's tokens. Raises EngineError before ``load``."""
        if self._vocabulary is None:
            raise EngineError("The backbone is not loaded.")
        return self._vocabulary

    @property
    def context_tokens(self) -> int:
        """Room of one row, prompt and codes together; what the model allows, after ``load``."""
        return self._context

    @property
    def capacity(self) -> int:
        """How many rows can be live at once."""
        return self._options.capacity

    @property
    def reading(self) -> Reading:
        """How far the prompts of all rows are read."""
        waiting = [self._rows[number] for number in self._waiting]
        return Reading(self._evaluated, sum(row.last - row.evaluated for row in waiting))

    @property
    def details(self) -> Mapping[str, Any]:
        """What was loaded: dtype, memory, what was captured; after ``load``."""
        captures = None if self._runner is None else self._runner.captures
        return self._details if captures is None else self._details | captures.told()

    @property
    def gpu(self) -> Gpu | None:
        """The CUDA device, with its memory as it is now."""
        return torch_gpu(self._plan.device)

    @property
    def weights(self) -> WeightsFormat:
        """How they are stored."""
        default = "the default on CUDA" if self._lag else "the default on a CPU"
        dtype = str(self._plan.dtype).removeprefix("torch.")
        return WeightsFormat(dtype, default if self._options.dtype == "auto" else "asked for")

    def load(self) -> None:
        """Read the model, capture its graphs. Raises ModelFileError, MissingExtra."""
        if self._runner is not None:
            return
        began = time.perf_counter()
        if self._plan.device.type == "cuda":
            torch.cuda.set_device(self._plan.device)  # streams and graphs are of this one
        elif self._options.threads:
            torch.set_num_threads(self._options.threads)
        weights = open_weights(self._folder)
        config = weights.config
        vocabulary = load_vocabulary(self._folder, config.architecture)
        choices = Choices(vocabulary.end_id, vocabulary.first_speech_id, SPEECH_CODES)
        plan = self._plan
        loaded = load_model(weights, choices, dtype=plan.dtype, device=plan.device)
        self._context = min(self._options.context_tokens, config.max_position_embeddings)
        loaded.model.set_attention(ATTENTION[plan.attention])
        self._runner = self._make_runner(loaded, choices)
        read = time.perf_counter()
        with torch.no_grad():
            captured = self._runner.capture()
        if plan.device.type == "cuda":
            torch.cuda.synchronize(plan.device)
        self._vocabulary = vocabulary
        self._details = {
            **self._told(loaded, self._runner),
            "load_s": round(read - began, 3),
            "graphs": captured,
            "capture_s": round(time.perf_counter() - read, 3),
        }

    def unload(self) -> None:
        """Release all rows and give the memory back."""
        self._rows.clear()
        self._waiting.clear()
        self._outbox.clear()
        if self._runner is not None and self._runner.captures is not None:
            self._runner.captures.release()
        self._runner = None
        empty_cache(self._plan.device)

    def admit(self, prompt: Prompt, sampling: TokenSampling, max_tokens: int) -> int:
        """Take a row. Raises InputError, ContextOverflow, EngineError where no row is free."""
        runner, length = self._loaded, len(prompt.ids)
        if length + 1 > self._context:
            raise ContextOverflow(length, self._context)
        self._check(prompt, max_tokens)
        free = [row for row in range(self.capacity) if row not in self._rows]
        if not free:
            raise EngineError("All rows of the backbone are taken.")
        row = free[0]
        self._owners += 1
        limit = min(max_tokens, self._context - length)
        self._rows[row] = _Row(self._owners, prompt, sampling, limit)
        self._waiting.append(row)
        runner.write_prompt(row, prompt.ids)
        return row

    def release(self, row: int) -> None:
        """Free a row at once, whatever it is doing. Unknown rows are ignored."""
        if self._rows.pop(row, None) is None:
            return
        if row in self._waiting:
            self._waiting.remove(row)
        self._loaded.stop(row)

    def step(self, *, codec_runs: bool = False, busy_slice: int = 0) -> Sequence[Emitted]:
        """A slice of the prompts that wait longest, and one token for every row past its own."""
        with torch.no_grad():
            self._prefill(busy_slice)
            asked = self._ask()
            found: dict[int, list[Emitted]] = {}
            for owners, drawn in self._outbox.collect(self._lag if asked else 0):
                for row, owner in enumerate(owners):
                    emitted = self._receive(row, owner, int(drawn[row]))
                    if emitted is not None:
                        found.setdefault(row, []).append(emitted)
        return [_joined(parts) for parts in found.values()]

    def scores(self, row: int) -> torch.Tensor:
        """A copy of a row's scores of the last step: float32 [65537], END first; for checks."""
        return self._loaded.state.scores[row].clone()

    @property
    def _loaded(self) -> Runner:
        if self._runner is None:
            raise EngineError("The backbone is not loaded.")
        return self._runner

    def _make_runner(self, loaded: Loaded, choices: Choices) -> Runner:
        graphs = self._graphs
        if graphs is None and self._plan.device.type == "cuda" and self._options.graphs:
            graphs = CudaGraphs(self._plan.device)
        speech = torch.arange(choices.speech) + choices.first_speech_id
        ids = torch.cat((torch.tensor([choices.end_id]), speech)).to(self._plan.device)
        return Runner(
            loaded.model,
            ids,
            rows=self.capacity,
            context=self._context,
            slice_tokens=min(self._plan.prefill_slice, self._context),
            graphs=graphs,
        )

    def _told(self, loaded: Loaded, runner: Runner) -> dict[str, Any]:
        kv = runner.state.kv
        return {
            "runtime": "torch",
            "torch": torch.__version__,
            "dtype": str(self._plan.dtype).removeprefix("torch."),
            "attention": self._plan.attention,
            "weights_bytes": loaded.weights_bytes,
            "weights_read_bytes": loaded.read_bytes,
            "kv_bytes": kv.keys.nbytes + kv.values.nbytes,
        }

    def _check(self, prompt: Prompt, max_tokens: int) -> None:
        rows = self._loaded.vocabulary_rows
        if not prompt.ids or min(prompt.ids) < 0 or max(prompt.ids) >= rows:
            raise InputError(f"A prompt is token ids from 0 to {rows - 1}, at least one.")
        if not 0 <= prompt.shared_prefix <= len(prompt.ids):
            raise InputError("shared_prefix is longer than the prompt.")
        if max_tokens < 1:
            raise InputError("max_tokens must be 1 or more.", param="max_tokens")

    def _prefill(self, busy_slice: int) -> None:
        """One slice's worth of prompt tokens of the rows that wait, the first first."""
        speaking = any(row.running for row in self._rows.values())
        busy = busy_slice or self._plan.busy_slice
        budget = busy if speaking else self._plan.prefill_slice
        while self._waiting and budget > 0:
            number = self._waiting[0]
            row = self._rows[number]
            budget -= self._prefill_part(number, row, budget)
            if row.evaluated == row.last:
                self._loaded.start(number, row.last + 1, row.sampling, row.limit)
                row.speaking = True
                self._waiting.pop(0)

    def _prefill_part(self, number: int, row: _Row, budget: int) -> int:
        """Evaluate a part of a row's prompt, up to the end of its template or of all but the last
        token; how many tokens that were."""
        runner, template = self._loaded, row.template
        if row.evaluated == 0 and template:
            row.evaluated = runner.restore(number, template)
        if row.evaluated == row.last:
            return 0
        bound = len(template) if row.evaluated < len(template) else row.last
        start, stop = row.evaluated, min(row.evaluated + min(budget, runner.slice_tokens), bound)
        runner.prefill(number, start, stop)
        row.evaluated = stop
        self._evaluated += stop - start
        if stop == len(template):
            runner.keep(number, template)
        return stop - start

    def _ask(self) -> bool:
        """Give the device one token of every running row to do; whether there is one."""
        running = [number for number, row in self._rows.items() if row.running]
        if not running:
            return False
        rows = [self._rows[number] for number in running]
        wide = any(is_wide(row.sampling.top_k) and not row.sampling.greedy for row in rows)
        span = max(row.position for row in rows) + 1
        width = max(running) + 1
        drawn = self._loaded.step(width, span, wide=wide)
        owners = [0] * drawn.shape[0]
        for number, row in zip(running, rows, strict=True):
            row.asked += 1
            owners[number] = row.owner
        self._outbox.send(drawn, tuple(owners))
        return True

    def _receive(self, number: int, owner: int, drawn: int) -> Emitted | None:
        """What one row drew; None for what has no row any more."""
        row = self._rows.get(number)
        if row is None or row.owner != owner or drawn == IDLE:
            return None
        if drawn == FAULT:
            self._loaded.scrub(number)
        if drawn in (END, FAULT):
            del self._rows[number]
            return Emitted(number, NO_CODES, True, "stop" if drawn == END else "error")
        row.made += 1
        full = row.made == row.limit
        if full:
            del self._rows[number]
        reason: FinishReason | None = "length" if full else None
        return Emitted(number, np.array([drawn - 1], np.int32), full, reason)


def _joined(parts: Sequence[Emitted]) -> Emitted:
    """Several results of one row as one."""
    if len(parts) == 1:
        return parts[0]
    codes = np.concatenate([part.codes for part in parts])
    return Emitted(parts[-1].row, codes, parts[-1].last, parts[-1].reason)
