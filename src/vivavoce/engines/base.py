"""The engine contract: a batch-first state machine that one thread drives.

An engine holds up to ``capacity`` utterances in slots. The engine loop (``engines/loop.py``) is
the only caller of everything below ``load``; nothing here needs a lock. ``validate``, ``info``,
``gpu`` and ``voices`` may be read from any thread.

The order of calls: ``load`` once, then any mix of ``admit``, ``step``, ``extend``, ``finish`` and
``release``, then ``unload``; ``load`` may follow again. A slot number is free again after
``release`` or after ``step`` returned it with ``last=True``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from vivavoce.errors import Unsupported, VivavoceError
from vivavoce.types import (
    FinishReason,
    Gpu,
    ReferenceAudio,
    Samples,
    Utterance,
    Voice,
    WeightsFormat,
    WordTiming,
)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do by itself; the speech service fills the gaps or refuses."""

    cloning: bool = False
    incremental_text: bool = False
    speed: bool = False
    seed: bool = False
    sampling: bool = False
    instructions: bool = False
    phonemes: bool = False


@dataclass(frozen=True, slots=True)
class TextLiking:
    """How an engine likes a text that is there as a whole.

    ``group_s``: sentences are gathered into utterances of about so many seconds of speech, after a
    first one that is short; 0: each is an utterance by itself.
    """

    group_s: float = 0.0


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Who an engine is.

    ``languages`` (ISO 639-1) empty means any; ``device`` is where it really runs;
    ``voice_aliases`` maps other servers' voice names to this engine's; ``weights`` tells how those
    of each loaded part are stored, the model that speaks first; ``text`` is how it likes what it is
    to speak. ``own_length_option`` names the option by which an utterance says itself how long it
    may be, so that reaching that is no failure; empty: there is none.
    """

    name: str
    model: str
    sample_rate_hz: int
    capabilities: Capabilities = Capabilities()
    languages: tuple[str, ...] = ()
    device: str = "cpu"
    default_voice: str = ""
    voice_aliases: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    details: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    weights: Mapping[str, WeightsFormat] = field(default_factory=lambda: MappingProxyType({}))
    text: TextLiking = TextLiking()
    own_length_option: str = ""


@dataclass(frozen=True, slots=True)
class Produced:
    """What one step made for one slot.

    ``samples`` may be empty (work without sound yet). With ``last`` the slot is free.
    ``error`` means that this slot alone failed; it implies ``last``. ``stages_ms`` names the work
    done for this slot in this step. Models that make one token at a time tell how many were made
    since the last piece, and when (monotonic clock) the utterance's first one was there. ``words``
    are placed in the utterance's own sound, by engines that know where.
    """

    slot: int
    samples: Samples
    last: bool = False
    finish_reason: FinishReason | None = None
    error: VivavoceError | None = None
    stages_ms: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    tokens: int = 0
    first_token_s: float | None = None
    words: tuple[WordTiming, ...] = ()


class Engine(ABC):
    """Base of all engines."""

    @property
    @abstractmethod
    def info(self) -> EngineInfo:
        """Who this engine is; complete after ``load``."""

    @property
    @abstractmethod
    def capacity(self) -> int:
        """How many utterances can be in slots at once."""

    def gpu(self) -> Gpu | None:
        """The card it runs on, with its memory as it is now; None where it runs on none.

        May be called from any thread, takes microseconds, and waits for nothing on the card.
        """
        return None

    def check_files(self) -> None:  # noqa: B027 - most engines need no files
        """Find what ``load`` will read, at the cost of a look into folders.

        Nothing is downloaded, and no library that computes is imported. Afterwards ``voices`` and
        ``validate`` answer as well as they can before ``load``. Raises SetupError that says what
        is missing and how to get it.
        """

    @abstractmethod
    def load(self) -> None:
        """Read the model and be ready to speak. Raises SetupError."""

    def unload(self) -> None:  # noqa: B027 - most engines have nothing to give back
        """Give the memory back; every slot must be free."""

    @abstractmethod
    def voices(self) -> Sequence[Voice]:
        """The built-in voices, the default one first."""

    def validate(self, utterance: Utterance) -> None:  # noqa: B027 - optional
        """Raise InputError for what this engine cannot speak. Takes no slot, from any thread."""

    def longest_audio_s(self, utterance: Utterance) -> float | None:
        """Seconds of sound beyond which the output for an utterance is a runaway; None: no bound.

        ``utterance.max_audio_s`` is what its text means at most as it is usually spoken; an engine
        whose options stretch speech says more. May be called from any thread.
        """
        return utterance.max_audio_s

    def clone(self, reference: ReferenceAudio) -> Voice:
        """Make a voice from a recording; its ``data`` is what ``voice_to_bytes`` stores.

        Runs in a worker thread, not in the engine's own. Raises Unsupported, InvalidAudio.
        """
        raise Unsupported(f"The engine {self.info.name!r} cannot clone voices.", param="voice")

    def voice_to_bytes(self, voice: Voice) -> bytes:
        """A cloned voice's state, for the voice library on disk."""
        raise Unsupported(f"The engine {self.info.name!r} cannot clone voices.", param="voice")

    def voice_from_bytes(self, data: bytes) -> Any:
        """The inverse of ``voice_to_bytes``. Raises ModelFileError for damaged data."""
        raise Unsupported(f"The engine {self.info.name!r} cannot clone voices.", param="voice")

    @abstractmethod
    def admit(self, utterance: Utterance) -> int:
        """Take a slot for an utterance. Only called while fewer than ``capacity`` are live."""

    def extend(self, slot: int, text: str) -> None:
        """Append text to an utterance that was admitted with ``text_open``."""
        raise Unsupported(f"The engine {self.info.name!r} takes whole texts only.")

    def finish(self, slot: int) -> None:
        """Say that no more text comes for a slot."""
        raise Unsupported(f"The engine {self.info.name!r} takes whole texts only.")

    @abstractmethod
    def release(self, slot: int) -> None:
        """Free a slot at once, whatever it is doing. Unknown slots are ignored."""

    def record(self, slot: int) -> Sequence[Any]:
        """A list that gets every code of a slot from now on, for checking the model.

        A code is what the model draws and the codec decodes: the number of a token, or the numbers
        of a frame (int64 [codebooks]). Raises Unsupported.
        """
        raise Unsupported(f"The engine {self.info.name!r} records no codes.")

    @abstractmethod
    def step(self) -> Sequence[Produced]:
        """Advance live slots once: all of them, or the most urgent one.

        Never blocks on a consumer. A fault in one slot is returned as its ``error``; an exception
        means that the engine as a whole has failed.
        """
