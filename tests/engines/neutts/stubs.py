"""A backbone and a codec that compute nothing: what they make can be told beforehand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np

from vivavoce.engines.neutts.backbone import (
    PREFILL_SLICE,
    Codes,
    Emitted,
    Prompt,
    Reading,
    TokenSampling,
)
from vivavoce.engines.neutts.family import NANO, TWO_E, Family
from vivavoce.errors import ContextOverflow, EngineError, InputError, VivavoceError
from vivavoce.types import Samples

HOP = 480
SPEECH_0 = 2_000_000
END = SPEECH_0 - 1
EMOTION_0 = 1_900_000


class StubVocabulary:
    """A character is a token; its id is its code point."""

    header_ids = (1, 2)
    middle_ids = (3, 4, 5)
    end_id = END
    first_speech_id = SPEECH_0

    def __init__(self, family: Family = NANO) -> None:
        self.emotions = {family.emotion_token(e): i for i, e in enumerate(family.emotions)}

    def tokenize(self, text: str) -> tuple[int, ...]:
        return tuple(map(ord, text))

    def speech_ids(self, codes: Codes | Sequence[int]) -> tuple[int, ...]:
        values = [int(code) for code in codes]
        if any(not 0 <= code < 65_536 for code in values):
            raise InputError("codes")
        return tuple(SPEECH_0 + code for code in values)

    def token_id(self, token: str) -> int | None:
        return EMOTION_0 + self.emotions[token] if token in self.emotions else None

    def text_of(self, prompt: Prompt) -> str:
        return "".join(chr(i) for i in prompt.ids if 5 < i < EMOTION_0)


@dataclass
class _Row:
    prompt: Prompt
    sampling: TokenSampling
    most: int
    read: int = 0
    made: int = 0


Length = Callable[[Prompt, TokenSampling], int]


def by_text(prompt: Prompt, sampling: TokenSampling) -> int:
    """Four codes a character of the text, as a voice would take."""
    return 4 * sum(5 < i < EMOTION_0 for i in prompt.ids)


@dataclass
class StubBackbone:
    """Code n of a row follows from its prompt, seed and n alone; ``length`` says when it ends."""

    family: Family = NANO
    device: str = "stub"
    context_tokens: int = 2048
    capacity: int = 4
    length: Length = by_text
    code: Callable[[int], int] | None = None
    fault: Exception | None = None
    rows: dict[int, _Row] = field(default_factory=dict)
    prompts: list[Prompt] = field(default_factory=list)
    samplings: list[TokenSampling] = field(default_factory=list)
    loaded: bool = False
    evaluated: int = 0
    slices: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.vocabulary = StubVocabulary(self.family)

    def load(self) -> None:
        self.loaded = True

    def unload(self) -> None:
        self.rows.clear()
        self.loaded = False

    def admit(self, prompt: Prompt, sampling: TokenSampling, max_tokens: int) -> int:
        if len(prompt.ids) + 1 > self.context_tokens:
            raise ContextOverflow(len(prompt.ids), self.context_tokens)
        free = [row for row in range(self.capacity) if row not in self.rows]
        if not free:
            raise EngineError("no row is free")
        self.rows[free[0]] = _Row(prompt, sampling, max_tokens)
        self.prompts.append(prompt)
        self.samplings.append(sampling)
        return free[0]

    def release(self, row: int) -> None:
        self.rows.pop(row, None)

    @property
    def reading(self) -> Reading:
        left = sum(max(0, len(row.prompt.ids) - row.read) for row in self.rows.values())
        return Reading(self.evaluated, left)

    def step(self, *, codec_runs: bool = False, busy_slice: int = 0) -> Sequence[Emitted]:
        if self.fault is not None:
            raise self.fault
        self.slices.append(busy_slice)
        emitted = [self._next(number, row) for number, row in list(self.rows.items())]
        return [each for each in emitted if each is not None]

    def _next(self, number: int, row: _Row) -> Emitted | None:
        if row.read < len(row.prompt.ids):
            size = self.slices[-1] or PREFILL_SLICE
            self.evaluated += min(size, len(row.prompt.ids) - row.read)
            row.read += size
            return None
        nothing = np.zeros(0, np.int32)
        if row.made >= self.length(row.prompt, row.sampling):
            del self.rows[number]
            return Emitted(number, nothing, True, "stop")
        row.made += 1
        codes = np.array([self._code(row)], np.int32)
        full = len(row.prompt.ids) + row.made >= self.context_tokens
        if row.made >= row.most or full:
            del self.rows[number]
            return Emitted(number, codes, True, "length")
        return Emitted(number, codes, False, None)

    def _code(self, row: _Row) -> int:
        if self.code is not None:
            return self.code(row.made)
        return crc32(repr((row.prompt.ids, row.sampling.seed, row.made)).encode()) % 65_536


@dataclass
class StubCodec:
    """Every code is its own loudness, wherever it stands: sound tells which codes were spoken."""

    device: str = "stub"
    windows: tuple[int, ...] = ()
    fault: VivavoceError | None = None
    gate: threading.Event | None = None
    decoded: int = 0
    closed: bool = False

    def decode(self, codes: Codes) -> Samples:
        if self.gate is not None:
            self.gate.wait(10.0)
        if self.fault is not None:
            raise self.fault
        self.decoded += len(codes)
        return sound_of(codes)

    def close(self) -> None:
        self.closed = True


def sound_of(codes: Codes) -> Samples:
    """What ``StubCodec`` makes of codes."""
    return np.repeat((np.asarray(codes) / 65_536 * 0.8 + 0.1).astype(np.float32), HOP)


def codes_of(samples: Samples) -> list[int]:
    """The inverse."""
    level = samples.reshape(-1, HOP)[:, HOP // 2]
    return [round((value - 0.1) / 0.8 * 65_536) for value in level.tolist()]


TWO_E_STUB = TWO_E
