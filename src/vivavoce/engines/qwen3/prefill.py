"""What a row does before its first frame: its prompt is read a piece at a time.

A piece is at most ``PIECE`` positions: as long as others wait for it, and as many rows as kernels
multiply. What all prompts of a voice begin with is kept on the device, so that it is read once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch

from vivavoce.engines.qwen3.codec.state import DecoderState
from vivavoce.engines.qwen3.memory import KEPT_PROMPTS_BYTES, KEPT_VOICES_BYTES
from vivavoce.engines.qwen3.options import Qwen3Options, row_options
from vivavoce.engines.qwen3.prompt import Plan, PromptRequest, Row, request_of
from vivavoce.engines.qwen3.voices import ClonedVoice
from vivavoce.errors import InputError, ModelFileError
from vivavoce.runtime.device_errors import twice
from vivavoce.runtime.graphs.api import LENGTH_BUCKETS
from vivavoce.runtime.graphs.transfer import to_device_packed
from vivavoce.runtime.lru_cache import LRUCache
from vivavoce.runtime.nn.kv import KVBuffer

if TYPE_CHECKING:
    from vivavoce.engines.qwen3.model import Model
    from vivavoce.engines.qwen3.row_speech import RowSpeech
    from vivavoce.engines.qwen3.rows import RowOptions


PIECE = LENGTH_BUCKETS[-1]

KEPT_PROMPTS = 64
KEPT_VOICES = 64
"""How many beginnings of prompts and codec states stay on the device, within ``memory``'s bytes."""


@dataclass(frozen=True, slots=True)
class _Prefix:
    """Keys and values of a voice's first positions; ``clone`` keeps its id from being reused."""

    clone: ClonedVoice | None
    kv: KVBuffer


@dataclass(frozen=True, slots=True)
class _Primed:
    """A cloned voice's codec state on the device."""

    clone: ClonedVoice
    state: DecoderState


class KeptVoices:
    """What stays on the device of voices that were used lately."""

    def __init__(self, device: torch.device) -> None:
        scarce = device.type == "cuda"  # A host's memory is bounded by their number.
        self._device = device
        self._prefixes: LRUCache[tuple[tuple[Row, ...], int], _Prefix] = LRUCache(
            KEPT_PROMPTS,
            KEPT_PROMPTS_BYTES,
            (lambda kept: kept.kv.keys.nbytes * 2) if scarce else None,
        )
        self._primed: LRUCache[int, _Primed] = LRUCache(
            KEPT_VOICES, KEPT_VOICES_BYTES, (lambda kept: kept.state.row_bytes) if scarce else None
        )

    def beginning(self, planned: Plan, clone: ClonedVoice | None) -> KVBuffer | None:
        """What a prompt begins with, where it was read before and is still there."""
        found = self._prefixes.find((planned.rows[: planned.prefix], id(clone)))
        return None if found is None else found.kv

    def remember(self, planned: Plan, clone: ClonedVoice | None, kv: KVBuffer) -> None:
        """Keep what was just read."""
        self._prefixes.get((planned.rows[: planned.prefix], id(clone)), lambda: _Prefix(clone, kv))

    def has_primed(self, clone: ClonedVoice) -> bool:
        """Whether a voice's codec state is on the device."""
        return self._primed.find(id(clone)) is not None

    def primed(self, clone: ClonedVoice, like: DecoderState) -> DecoderState:
        """A voice's codec state, brought to the device where it is not there yet.

        Raises InputError for a voice that another model made.
        """

        def make() -> _Primed:
            saved = {name: torch.from_numpy(part) for name, part in clone.codec_state.items()}
            kept = to_device_packed(saved, self._device)
            try:
                return _Primed(clone, like.with_tensors(kept))
            except ModelFileError as error:
                message = "The voice was made with another model."
                raise InputError(message, param="voice") from error

        return self._primed.get(id(clone), make).state


Part = Callable[[], object]


@dataclass(slots=True)
class Beginning:
    """A row on its way to its first frame. Each part may be done twice, where memory is short."""

    make_room: Callable[[], None]
    parts: deque[Part] = field(default_factory=deque)

    @torch.no_grad()
    def advance(self) -> bool:
        """Do the next part; whether it was the last.

        Raises InputError for what leaves no room to speak, and NoDeviceMemory.
        """
        twice(self.parts[0], self.make_room)
        self.parts.popleft()
        return not self.parts


def pieces_of(start: int, stop: int, longest: int = PIECE) -> list[tuple[int, int]]:
    """Where the pieces of positions ``start`` to ``stop`` begin and end.

    Each is as long as can be, so that the last may repeat some of the one before: fewer sizes have
    to be captured.
    """
    length = stop - start
    begins = [*range(0, length - longest, longest), max(0, length - longest)]
    return [(start + at, min(stop, start + at + longest)) for at in begins]


class Slots(Protocol):
    """What a ``Batch`` does for prompts that are read."""

    def start(self, row: int, request: PromptRequest, options: RowOptions) -> Beginning:
        """Prefill and admit piece by piece."""
        ...

    def extend(self, row: int, ids: Sequence[int]) -> None:
        """More text."""
        ...

    def finish(self, row: int) -> None:
        """No more text."""
        ...


@dataclass(slots=True)
class _Reading:
    """``told``: token ids of its text that the row knows of."""

    beginning: Beginning
    told: int


@dataclass(slots=True)
class Readings:
    """Of the rows of a batch."""

    model: Model
    batch: Slots
    options: Qwen3Options
    _under_way: dict[int, _Reading] = field(default_factory=dict)

    def advance(self, row: int, speech: RowSpeech) -> bool:
        """Read the next piece of a row's prompt; whether the row speaks from now on.

        Raises InputError for what leaves no room to speak, and NoDeviceMemory.
        """
        if row not in self._under_way:
            self._under_way[row] = self._start(row, speech)
        reading = self._under_way[row]
        if not reading.beginning.advance():
            return False
        self.forget(row)
        if speech.utterance.text_open:
            if later := speech.ids[reading.told :]:
                self.batch.extend(row, later)
            if speech.closed:
                self.batch.finish(row)
        return True

    def forget(self, row: int) -> None:
        """Nobody wants to hear the row any more."""
        self._under_way.pop(row, None)

    def _start(self, row: int, speech: RowSpeech) -> _Reading:
        config = self.model.config
        request = request_of(speech, config, self.model.tokenizer, self.options.text_layout)
        most = speech.budget if speech.closed else self.options.positions
        options = row_options(config.generation, speech.utterance.sampling, speech.request, most)
        return _Reading(self.batch.start(row, request, options), len(speech.ids))
