"""The values that travel between the rooms: frozen, small, without behaviour of their own.

Sound inside vivavoce is always mono float32 in [-1, 1] at the engine's own sample rate; other
rates and encodings exist only behind ``audio/``.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples: TypeAlias = NDArray[np.float32]
    """Mono sound, shape (n,), float32, full scale = ±1.0."""
else:
    Samples: TypeAlias = Any

NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


class Priority(enum.IntEnum):
    """Who goes first when there are fewer slots than requests."""

    REALTIME = 0
    BATCH = 1


ClauseEnd: TypeAlias = Literal["clause", "sentence", "paragraph"]
"""What a clause ends with; decides the pause after it."""

FinishReason: TypeAlias = Literal["stop", "length", "cancelled", "error"]
"""Why an utterance ended: it was spoken whole, was cut at its length limit, or did not end well."""


@dataclass(frozen=True, slots=True)
class Span:
    """A run of text to be spoken; ``ipa`` overrides its pronunciation where the engine can."""

    text: str
    ipa: str | None = None


@dataclass(frozen=True, slots=True)
class Clause:
    """A piece of text that is synthesised at once.

    ``spans`` hold it as it will be spoken (normalized), ``source`` as it was written. A clause
    without spans is a pause only. ``pause_ms`` is an explicit pause after it (SSML ``<break>``);
    None means the natural pause for ``end``.
    """

    spans: tuple[Span, ...]
    source: str = ""
    end: ClauseEnd = "sentence"
    pause_ms: float | None = None

    @property
    def text(self) -> str:
        """The spoken text, without pronunciations."""
        return "".join(span.text for span in self.spans)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an engine draws; None means the engine's own default."""

    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class ReferenceAudio:
    """A recording to clone a voice from: mono float32 at any rate, with its transcript if known."""

    samples: Samples
    sample_rate_hz: int
    transcript: str | None = None


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording as somebody sent it: not decoded, and not even read before its turn has come.

    ``param`` is the request's field that it came in.
    """

    read: Callable[[], Awaitable[bytes]]
    transcript: str | None = None
    param: str = "file"


@dataclass(frozen=True, slots=True)
class Voice:
    """Something an engine can speak as. ``data`` is the engine's own state for cloned voices.

    Of a saved voice, ``version`` is another one once it was replaced, and ``consent`` is what was
    told of its speaker's agreement.
    """

    id: str
    engine: str
    name: str = ""
    languages: tuple[str, ...] = ()
    kind: Literal["builtin", "cloned"] = "builtin"
    description: str = ""
    created_at_s: int = 0
    version: str = ""
    consent: str = ""
    data: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Utterance:
    """What an engine is asked to speak in one slot: one clause and how to speak it.

    ``deadline_s`` (monotonic clock) is when the caller's playback runs dry if nothing of this
    utterance has arrived; an engine that advances one slot a step takes the earliest first and
    adds what it has produced since. ``bounds_itself``: its ``options`` say how long it may be, so
    that reaching that is no failure.
    """

    spans: tuple[Span, ...]
    voice: Voice
    language: str | None = None
    speed: float = 1.0
    instructions: str | None = None
    sampling: Sampling = Sampling()
    deadline_s: float = 0.0
    max_audio_s: float | None = None
    text_open: bool = False
    bounds_itself: bool = False
    options: Mapping[str, Any] = field(default_factory=lambda: NO_OPTIONS)

    @property
    def text(self) -> str:
        """The spoken text, without pronunciations."""
        return "".join(span.text for span in self.spans)


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """A text and everything that alters how it sounds.

    ``stream_mode`` is ``token`` (sound leaves as it is made) or ``sentence`` (clause by clause).
    ``lexicon`` maps words to another spelling, or to IPA written as ``/…/``.
    ``options`` go to the engine as they are; it refuses those it does not know.
    """

    text: str
    voice: str | None = None
    language: str | None = None
    speed: float = 1.0
    instructions: str | None = None
    sampling: Sampling = Sampling()
    normalize: bool = True
    ssml: bool = False
    lexicon: Mapping[str, str] = field(default_factory=lambda: NO_OPTIONS)
    stream_mode: Literal["token", "sentence"] = "token"
    priority: Priority = Priority.REALTIME
    reference: ReferenceAudio | Recording | None = None
    options: Mapping[str, Any] = field(default_factory=lambda: NO_OPTIONS)


@dataclass(frozen=True, slots=True)
class WordTiming:
    """A word and where it sounds: samples of its sound from ``start_sample`` to ``end_sample``."""

    text: str
    start_sample: int
    end_sample: int

    def mapped(self, place: Callable[[int], int]) -> WordTiming:
        """The same word in another sound, which has at ``place(n)`` what this one has at ``n``."""
        return WordTiming(self.text, place(self.start_sample), place(self.end_sample))


@dataclass(frozen=True, slots=True)
class AudioChunk:
    """A piece of speech, in order. ``clause`` counts from 0; ``last`` marks the final piece.

    ``words`` are those whose sound has come, at their places in the whole stream, where the engine
    tells them.
    """

    samples: Samples
    sample_rate_hz: int
    clause: int = 0
    last: bool = False
    words: tuple[WordTiming, ...] = ()

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate_hz


@dataclass(frozen=True, slots=True)
class Gpu:
    """A graphics card as it is now; memory in bytes, None where nobody tells.

    ``free`` and ``total`` are the card's, whoever uses it; ``allocated`` is what this process's
    tensors take and ``reserved`` what is held for them, both without CUDA's own context.
    """

    name: str
    free_bytes: int | None = None
    total_bytes: int | None = None
    allocated_bytes: int | None = None
    reserved_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class WeightsFormat:
    """How weights are stored (int8, bfloat16, …), and why so."""

    precision: str
    why: str


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """How sound is written: an encoding name of ``audio.formats`` and a sample rate."""

    encoding: str
    sample_rate_hz: int


@dataclass(slots=True)
class Timings:
    """Where the time of one request went; milliseconds, monotonic clock. Filled as it runs.

    ``first_token_ms`` and ``first_audio_ms`` count from the request's arrival (``arrived_s``) to
    the model's first token and to the first chunk of sound. ``tokens`` counts what a model makes
    one at a time (a code of NeuTTS, a codec frame of Qwen3-TTS). ``stages_ms`` sums what the
    engine reports (for Piper: phonemes, encoder, decoder).
    """

    normalize_ms: float = 0.0
    queue_ms: float = 0.0
    first_token_ms: float | None = None
    first_audio_ms: float | None = None
    total_ms: float | None = None
    audio_s: float = 0.0
    clauses: int = 0
    characters: int = 0
    tokens: int = 0
    cached: bool = False
    stages_ms: dict[str, float] = field(default_factory=dict)
    arrived_s: float = field(default_factory=time.monotonic)

    @property
    def rtf(self) -> float | None:
        """Real-time factor: time spent per second of sound; under 1 is faster than real time."""
        if self.total_ms is None or self.audio_s <= 0:
            return None
        return self.total_ms / 1000 / self.audio_s
