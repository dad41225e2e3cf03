"""Tiny models, prompts, and plain ways to let rows speak."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch

from vivavoce.engines.neutts.backbone import SPEECH_CODES, Prompt, TokenSampling
from vivavoce.engines.neutts.torch_backbone import TorchBackbone
from vivavoce.engines.neutts.torch_checkpoint import Choices, load_model, open_weights
from vivavoce.engines.neutts.torch_config import TorchVocabulary, load_vocabulary
from vivavoce.engines.neutts.torch_plan import TorchLmOptions
from vivavoce.engines.neutts.torch_rows import Runner
from vivavoce.runtime.graphs.api import GraphApi
from vivavoce.types import FinishReason

torch.set_num_threads(1)  # tiny tensors are slower on many

NAMES = ("neutts-air", "neutts-nano", "neutts-2e")
CPU = torch.device("cpu")
GREEDY = TokenSampling(greedy=True)


def prompt_ids(vocabulary: TorchVocabulary, codes: int = 40, *, first: int = 7) -> tuple[int, ...]:
    """A prompt as the models know it, with made-up reference codes."""
    reference = (np.arange(codes) * 1_237 + first) % SPEECH_CODES
    text = vocabulary.tokenize("maɪ nˈeɪm ɪz ˈændi.")
    return (
        vocabulary.header_ids
        + text
        + vocabulary.middle_ids
        + vocabulary.speech_ids(reference.astype(np.int32))
    )


@dataclass
class Said:
    """What one row said."""

    codes: list[int] = field(default_factory=list)
    reason: FinishReason | None = None


def loaded(folder: Path, graphs: GraphApi | None = None, **options: object) -> TorchBackbone:
    """A backbone on the CPU with room for 256 tokens a row."""
    given = {"device": "cpu", "context_tokens": 256, **options}
    backbone = TorchBackbone(folder, TorchLmOptions(**given), graphs)  # type: ignore[arg-type]
    backbone.load()
    return backbone


def advance(backbone: TorchBackbone, rows: dict[int, Said], steps: int) -> None:
    """Step and collect what the rows say."""
    for _ in range(steps):
        for emitted in backbone.step():
            rows[emitted.row].codes += emitted.codes.tolist()
            if emitted.last:
                rows[emitted.row].reason = emitted.reason


def speak(
    backbone: TorchBackbone,
    prompts: Iterable[Sequence[int]],
    samplings: Iterable[TokenSampling],
    max_tokens: int,
    *,
    shared: int = 0,
) -> list[Said]:
    """Let rows that were admitted together speak to their ends."""
    rows = {
        backbone.admit(Prompt(tuple(ids), shared), sampling, max_tokens): Said()
        for ids, sampling in zip(prompts, samplings, strict=True)
    }
    for _ in range(10 * max_tokens + 100):
        advance(backbone, rows, 1)
        if all(said.reason for said in rows.values()):
            return list(rows.values())
    raise AssertionError("rows did not end")


known_vocabulary = cache(load_vocabulary)


@dataclass
class Bare:
    """A model and its rows without a backbone around them."""

    vocabulary: TorchVocabulary
    runner: Runner

    @classmethod
    def of(
        cls,
        folder: Path,
        *,
        dtype: torch.dtype = torch.float32,
        rows: int = 1,
        context: int = 256,
        slice_tokens: int = 128,
        graphs: GraphApi | None = None,
    ) -> Bare:
        """Load ``folder`` on the CPU."""
        weights = open_weights(folder)
        vocabulary = known_vocabulary(folder, weights.config.architecture)
        first = vocabulary.first_speech_id
        choices = Choices(vocabulary.end_id, first, SPEECH_CODES)
        model = load_model(weights, choices, dtype=dtype, device=CPU).model
        ids = torch.tensor([vocabulary.end_id, *range(first, first + SPEECH_CODES)])
        runner = Runner(
            model,
            ids,
            rows=rows,
            context=context,
            slice_tokens=slice_tokens,
            graphs=graphs,
        )
        return cls(vocabulary, runner)

    def begin(self, ids: Sequence[int], sampling: TokenSampling = GREEDY, row: int = 0) -> None:
        """Prefill in slices and let the row speak."""
        self.runner.write_prompt(row, ids)
        last = len(ids) - 1
        for start in range(0, last, self.runner.slice_tokens):
            self.runner.prefill(row, start, min(last, start + self.runner.slice_tokens))
        self.runner.start(row, len(ids), sampling, 10_000)

    def scores(self, ids: Sequence[int]) -> torch.Tensor:
        """Scores [65537] of what follows a prompt."""
        self.begin(ids)
        self.runner.step(1, len(ids), wide=False)
        return self.runner.state.scores[0].clone()
