"""What every NeuTTS backbone is: rows that each continue one prompt with speech codes.

A backbone holds up to ``capacity`` rows in one batch. One thread drives it: ``load``, then any mix
of ``admit``, ``step`` and ``release``, then ``unload``. A row's number is free again after
``release`` or after ``step`` returned it with ``last=True``. What a row emits depends on its own
prompt and sampling alone, not on its company (up to the rounding of batched arithmetic, of which
there is none for quantized weights in llama.cpp on a CPU).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vivavoce.engines.neutts.family import Family
from vivavoce.errors import InputError
from vivavoce.types import FinishReason

Codes: TypeAlias = NDArray[np.int32]
"""Speech codes, shape (n,), int32, each 0..65535, 50 of them a second."""

SPEECH_CODES = 65_536
PREFILL_SLICE = 128
"""Most prompt tokens that one ``step`` evaluates where somebody could wait for its end."""


@dataclass(frozen=True, slots=True)
class TokenSampling:
    """How a row draws its codes.

    ``top_k`` 0, ``top_p`` 1 and ``min_p`` 0 switch their filter off. END cannot be drawn before
    ``min_tokens`` codes. ``greedy`` takes the most likely and ignores the rest but ``min_tokens``.
    Raises InputError for values out of range.
    """

    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 0.95
    min_p: float = 0.05
    seed: int = 0
    min_tokens: int = 0
    greedy: bool = False

    def __post_init__(self) -> None:
        if not (self.greedy or (math.isfinite(self.temperature) and self.temperature > 0)):
            raise InputError("The temperature must be over 0.", param="temperature")
        if self.top_k < 0:
            raise InputError("top_k must be 0 or more.", param="top_k")
        if not 0 < self.top_p <= 1:
            raise InputError("top_p must be over 0 and at most 1.", param="top_p")
        if not 0 <= self.min_p <= 1:
            raise InputError("min_p must be from 0 to 1.", param="min_p")
        if self.min_tokens < 0:
            raise InputError("min_tokens must be 0 or more.", param="min_tokens")


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a row continues: token ids in the model's ORIGINAL vocabulary.

    ``ids[:shared_prefix]`` are the voice's template (BOS, header, reference phonemes), which a
    backbone may keep evaluated and share among rows; 0 where there is none.
    """

    ids: tuple[int, ...]
    shared_prefix: int = 0


@dataclass(frozen=True, slots=True)
class Emitted:
    """What one step made for one row: ``codes`` in order; END is never among them.

    With ``last`` the row is free, and ``reason`` is "stop" (END was drawn), "length" (the row's
    ``max_tokens`` are made, or its context is full) or "error" (the model's output for this row
    is not a number). ``codes`` may be empty.
    """

    row: int
    codes: Codes
    last: bool
    reason: FinishReason | None


@dataclass(frozen=True, slots=True)
class Reading:
    """Prompt tokens: ``evaluated`` since the backbone was made, ``left`` of the rows there are."""

    evaluated: int
    left: int


class Vocabulary(Protocol):
    """Token ids of one model file, all in its original vocabulary."""

    @property
    def header_ids(self) -> tuple[int, ...]:
        """What comes before the text, BOS included where the model wants one."""

    @property
    def middle_ids(self) -> tuple[int, ...]:
        """What comes between the text and the first speech code."""

    @property
    def end_id(self) -> int:
        """SPEECH_GENERATION_END."""

    @property
    def first_speech_id(self) -> int:
        """``<|speech_0|>``; the other 65,535 follow it."""

    def tokenize(self, text: str) -> tuple[int, ...]:
        """Plain text; special tokens' names in it are not parsed."""

    def speech_ids(self, codes: Codes | Sequence[int]) -> tuple[int, ...]:
        """Ids of speech codes. Raises InputError for codes out of range."""

    def token_id(self, token: str) -> int | None:
        """The id of a special token by its name (2E's ``<|HAPPY|>``); None where unknown."""


class Backbone(Protocol):
    """A language model that continues prompts with speech codes, several rows at once."""

    @property
    def device(self) -> str:
        """Where it really runs: "cpu", "cuda:0"."""

    @property
    def family(self) -> Family:
        """Which model it is; known after ``load``."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The model's tokens; known after ``load``."""

    @property
    def context_tokens(self) -> int:
        """Room of one row, prompt and codes together."""

    @property
    def capacity(self) -> int:
        """How many rows can be live at once."""

    @property
    def reading(self) -> Reading:
        """How far the prompts of all rows are read."""

    def load(self) -> None:
        """Read the model and be ready to ``admit``. Raises SetupError."""

    def unload(self) -> None:
        """Release all rows and give the memory back."""

    def admit(self, prompt: Prompt, sampling: TokenSampling, max_tokens: int) -> int:
        """Take a row. Nothing is computed yet.

        Raises ContextOverflow where prompt + 1 > ``context_tokens``, EngineError where no row is
        free.
        """

    def release(self, row: int) -> None:
        """Free a row at once, whatever it is doing. Unknown rows are ignored."""

    def step(self, *, codec_runs: bool = False, busy_slice: int = 0) -> Sequence[Emitted]:
        """One bounded piece of work for all rows.

        ``codec_runs``: the codec computes at the same time and should be left a core.
        ``busy_slice``: most prompt tokens to read while others speak; 0 is the backbone's choice.

        One token for every row that is past its prompt, and a prefill slice (while others speak at
        most ``PREFILL_SLICE``). Returns those rows that have something new.
        """
