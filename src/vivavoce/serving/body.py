"""Request bodies read with care: JSON becomes checked models, or an InputError.

A JSON body of 256 KiB costs the event loop less than 10 ms, whatever is in it: fields, lists and
objects are counted, and what is slow to make (an object for each of 100,000 brackets, a report of
20,000 faults) is refused before it is made.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Annotated, Any, Literal, NoReturn, TypeAlias, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.requests import Request

from vivavoce.audio.formats import MAX_RATE_HZ, MIN_RATE_HZ
from vivavoce.errors import InputError, shown
from vivavoce.serving.problems import from_validation
from vivavoce.text.lexicon import MAX_REQUEST_ENTRIES
from vivavoce.types import NO_OPTIONS, Priority, ReferenceAudio, Sampling, SpeechRequest

Model = TypeVar("Model", bound=BaseModel)

MAX_FIELDS = 100
MAX_CONTAINERS = 1_000
"""Lists and objects in a JSON body, at any depth."""

LOOP_BYTES = 256 * 1024
"""Larger bodies, where the settings allow them, are parsed in a thread."""

_STRING = r'"(?:[^"\\]++|\\[\s\S])*+"'
_TOO_MANY_CONTAINERS = re.compile(rf'(?:(?:[^"\[{{]++|{_STRING})*+[\[{{]){{{MAX_CONTAINERS + 1}}}')
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_ONLY_PAIRS = re.compile(
    r"(?:[^\\]++|\\[^u]|\\u(?![dD][89a-fA-F])"
    r"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})*+"
)
"""JSON with no half of a surrogate pair; each character is looked at once (possessive matching)."""


async def read_json(request: Request, model: type[Model]) -> Model:
    """The request's body as a model. Raises InputError, BodyTooLarge."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind and kind != "application/json" and not kind.endswith("+json"):
        raise InputError(f"Content-Type must be application/json, not {shown(kind)}.")
    return checked(await read_object(await request.body()), model)


async def read_object(raw: bytes | str) -> dict[str, Any]:
    """``parse_object``, in a thread where it would take long. Raises InputError."""
    if len(raw) <= LOOP_BYTES:
        return parse_object(raw)
    return await asyncio.to_thread(parse_object, raw)


def parse_object(raw: bytes | str) -> dict[str, Any]:
    """A JSON object, strictly: UTF-8, without NaN or Infinity. Raises InputError."""
    try:
        text = raw if isinstance(raw, str) else raw.decode("utf-8-sig")
        if _holds_too_many_containers(text):
            raise InputError(f"The body holds more than {MAX_CONTAINERS} lists and objects.")
        fields = json.loads(text, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise InputError("The body is not UTF-8.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"The body is not JSON: {error}.") from error
    if not isinstance(fields, dict):
        raise InputError("The body must be a JSON object.")
    if len(fields) > MAX_FIELDS:
        raise InputError(f"The body has {len(fields)} fields; at most {MAX_FIELDS} are accepted.")
    if _SURROGATE.search(text) and not _ONLY_PAIRS.fullmatch(text):
        raise _lone_surrogate(fields)
    return fields


def checked(fields: Mapping[str, Any], model: type[Model]) -> Model:
    """Fields as a model; one that is null is not given. Raises InputError that names the first one
    at fault.
    """
    try:
        return model.model_validate(_given(fields, model))
    except ValidationError as error:
        raise from_validation(error) from error


def _given(fields: Mapping[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """All but nulls; where unknown fields are refused, so are those that are null."""
    strict = model.model_config.get("extra") == "forbid"
    return {
        name: value
        for name, value in fields.items()
        if value is not None or (strict and name not in model.model_fields)
    }


def _holds_too_many_containers(text: str) -> bool:
    few = text.count("[") + text.count("{") <= MAX_CONTAINERS
    return not few and _TOO_MANY_CONTAINERS.match(text) is not None


def _lone_surrogate(fields: Mapping[str, Any]) -> InputError:
    """JSON can escape half of a pair, which is no text and cannot be encoded again."""
    for name, value in fields.items():
        texts = [name, value] if isinstance(value, str) else [name]
        if isinstance(value, dict):
            texts += [*value, *(each for each in value.values() if isinstance(each, str))]
        try:
            "".join(texts).encode()
        except UnicodeEncodeError:
            return InputError(f"{name}: holds a lone surrogate.", param=name)
    return InputError("The body holds a lone surrogate.")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """``openapi_extra`` for a JSON body that the route reads itself."""
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
    return {"requestBody": {"required": True, "content": content}}


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
"""The names of ``audio.formats.ENCODINGS``."""

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
