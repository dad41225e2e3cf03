"""The fields of a request to speak, shared by every protocol, and what they become."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from vivavoce.audio.containers.catalog import MAX_RATE_HZ, MIN_RATE_HZ
from vivavoce.text.lexicon import MAX_REQUEST_ENTRIES
from vivavoce.types import NO_OPTIONS, Priority, ReferenceAudio, Sampling, SpeechRequest

MAX_SEED = 2**63 - 1
MAX_INSTRUCTIONS_CHARS = 4_096
MAX_OPTIONS = 100
MAX_LANGUAGE_CHARS = 64
MAX_TRANSCRIPT_CHARS = 4_096
MAX_UNKNOWN_NAMES = 20
MAX_UNKNOWN_CHARS = 64
"""What is kept of the names of fields that mean nothing here."""


def whole_number(value: Any) -> Any:
    """JSON has one kind of number: 3.0 is an integer there."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _at_most(count: int) -> BeforeValidator:
    """Refuse a larger object before each of its entries is looked at, and complained of.

    Entries that are null are not given.
    """

    def check(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if len(value) > count:
            raise ValueError(f"has {len(value)} entries; at most {count} are accepted")
        return {name: each for name, each in value.items() if each is not None}

    return BeforeValidator(check)


Rate: TypeAlias = Annotated[
    int, Field(ge=MIN_RATE_HZ, le=MAX_RATE_HZ), BeforeValidator(whole_number)
]
Seed: TypeAlias = Annotated[int, Field(ge=0, le=MAX_SEED), BeforeValidator(whole_number)]
Text: TypeAlias = Literal["text", "ssml"]
ResponseFormat: TypeAlias = Literal[
    "mp3", "opus", "aac", "flac", "wav", "pcm", "ulaw", "alaw", "ogg"
]
"""The names of ``audio.containers.ENCODINGS``."""

StreamMode: TypeAlias = Literal["token", "sentence"]
Scalar: TypeAlias = str | bool | int | float
Options: TypeAlias = Annotated[dict[str, Scalar | None], _at_most(MAX_OPTIONS)]
Entries: TypeAlias = Annotated[dict[str, str | None], _at_most(MAX_REQUEST_ENTRIES)]


class VoiceReference(BaseModel):
    """A voice by id, as OpenAI's clients send custom voices."""

    model_config = ConfigDict(strict=True)

    id: str


class SpeechBody(BaseModel):
    """What to speak and how. Unknown fields are tolerated and named in X-Ignored-Fields."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    input: str = Field(min_length=1, description="The text; more than white space.")
    voice: str | VoiceReference | None = Field(
        None, description="A voice's name, or an object with its id; by default the engine's own."
    )
    language: str | None = Field(
        None, max_length=MAX_LANGUAGE_CHARS, description="A code such as en, a tag, or 'auto'."
    )
    speed: float = Field(1.0, ge=0.25, le=4.0, description="1 is the voice's own pace.")
    instructions: str | None = Field(
        None, max_length=MAX_INSTRUCTIONS_CHARS, description="How to speak, where the engine can."
    )
    instruct: str | None = Field(
        None, max_length=MAX_INSTRUCTIONS_CHARS, description="Another name for instructions."
    )
    sample_rate: Rate | None = Field(None, description="Hz; X-Sample-Rate says what was sent.")
    stream_mode: StreamMode | None = Field(
        None, description="token: sound leaves as it is made; sentence: clause by clause."
    )
    temperature: float | None = Field(None, ge=0.0, le=2.0)
    top_p: float | None = Field(None, gt=0.0, le=1.0)
    seed: Seed | None = None
    normalize: bool | None = Field(None, description="Speak numbers, dates and the like as words.")
    lexicon: Entries | None = Field(
        None,
        max_length=MAX_REQUEST_ENTRIES,
        description="Words to other spellings, or to IPA written as /…/.",
    )
    input_type: Text = Field("text", description="Whether the input is plain text or SSML.")
    priority: Literal["realtime", "batch"] = Field(
        "realtime", description="Real-time requests go before batch ones."
    )
    options: Options | None = Field(
        None, max_length=MAX_OPTIONS, description="The engine's own options."
    )

    @property
    def unknown_fields(self) -> tuple[str, ...]:
        """The first names of fields that mean nothing here."""
        return named_fields(self.model_extra or ())

    @property
    def voice_name(self) -> str | None:
        """The voice asked for."""
        return self.voice.id if isinstance(self.voice, VoiceReference) else self.voice

    def to_request(self, reference: ReferenceAudio | None = None) -> SpeechRequest:
        """What the speech service takes."""
        return SpeechRequest(
            text=self.input,
            voice=self.voice_name,
            language=self.language,
            speed=self.speed,
            instructions=self.instructions or self.instruct,
            sampling=Sampling(self.temperature, self.top_p, self.seed),
            normalize=self.normalize is not False,
            ssml=self.input_type == "ssml",
            lexicon=_or_empty(self.lexicon),
            stream_mode=self.stream_mode or "token",
            priority=Priority.BATCH if self.priority == "batch" else Priority.REALTIME,
            reference=reference,
            options=_or_empty(self.options),
        )


def named_fields(names: Iterable[str]) -> tuple[str, ...]:
    """As many names as are told to whoever sent them, and as much of each."""
    return tuple(name[:MAX_UNKNOWN_CHARS] for name in islice(names, MAX_UNKNOWN_NAMES))


def _or_empty(given: Mapping[str, Any] | None) -> Mapping[str, Any]:
    return NO_OPTIONS if given is None else given
