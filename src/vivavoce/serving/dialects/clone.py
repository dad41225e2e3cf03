"""``POST /v1/audio/speech/clone``: speak once in the voice of a recording that comes along."""

from __future__ import annotations

from contextlib import AsyncExitStack

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send

from vivavoce.audio.formats import MAX_RATE_HZ, MIN_RATE_HZ
from vivavoce.errors import InputError
from vivavoce.serving.body import (
    MAX_LANGUAGE_CHARS,
    MAX_SEED,
    MAX_TRANSCRIPT_CHARS,
    ResponseFormat,
    named_fields,
)
from vivavoce.serving.callers import check_within_limits
from vivavoce.serving.context import ServerContext, context_of
from vivavoce.serving.forms import (
    check_cloning,
    check_consent,
    form_body,
    form_fields,
    read_form,
    uploaded_recording,
)
from vivavoce.serving.responses import (
    Framing,
    SpeechResponse,
    encoding_media_types,
    speech_responses,
)
from vivavoce.serving.session import SpeechOrder, invalid_counted
from vivavoce.speech.voices import MAX_CONSENT_CHARS
from vivavoce.types import Recording, Sampling, SpeechRequest

router = APIRouter(tags=["speech"])


class CloneFields(BaseModel):
    """The text fields of the form."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    input: str = Field(min_length=1, description="The text to speak.")
    ref_text: str | None = Field(
        None, max_length=MAX_TRANSCRIPT_CHARS, description="What the recording says, if known."
    )
    consent: str | None = Field(
        None, max_length=MAX_CONSENT_CHARS, description="How the speaker agreed."
    )
    language: str | None = Field(None, max_length=MAX_LANGUAGE_CHARS)
    response_format: ResponseFormat = "wav"
    speed: float = Field(1.0, ge=0.25, le=4.0)
    sample_rate: int | None = Field(None, ge=MIN_RATE_HZ, le=MAX_RATE_HZ)
    temperature: float | None = Field(None, ge=0.0, le=2.0)
    top_p: float | None = Field(None, gt=0.0, le=1.0)
    seed: int | None = Field(None, ge=0, le=MAX_SEED)
    stream: bool = Field(False, description="Send the sound as it is made, not as a whole file.")

    def to_request(self, reference: Recording) -> SpeechRequest:
        """What the speech service takes."""
        return SpeechRequest(
            text=self.input,
            language=self.language,
            speed=self.speed,
            sampling=Sampling(self.temperature, self.top_p, self.seed),
            reference=reference,
        )


class CloneForm(CloneFields):
    """The whole form, for the description only."""

    file: str = Field(description="The recording.", json_schema_extra={"format": "binary"})


@router.post(
    "/v1/audio/speech/clone",
    summary="Speak in the voice of a recording",
    response_class=Response,
    responses=speech_responses(*encoding_media_types()),
    openapi_extra=form_body(CloneForm),
)
async def clone(request: Request) -> Response:
    """One-shot cloning. An engine that cannot clone answers 400."""
    context = context_of(request)
    with invalid_counted(context.service, "http"):
        return await _clone(context, request)


async def _clone(context: ServerContext, request: Request) -> Response:
    context.service.lifecycle.check_open()
    check_within_limits(context.service, "http")
    check_cloning(context)
    opened = AsyncExitStack()
    form = await opened.enter_async_context(read_form(request))
    try:
        fields = form_fields(form, CloneFields)
        check_consent(context, fields.consent)
        recording = uploaded_recording(form, fields.ref_text, "file")
    except InputError:
        await opened.aclose()
        raise
    unknown = named_fields(name for name in fields.model_extra or () if name != "file")
    order = SpeechOrder(
        fields.to_request(recording), fields.response_format, fields.sample_rate, unknown
    )
    return _WithForm(SpeechResponse(context, order, Framing(), whole=not fields.stream), opened)


class _WithForm(Response):
    """A response that needs the request's form, and closes it at its end."""

    def __init__(self, answer: Response, opened: AsyncExitStack) -> None:
        super().__init__()
        self._answer = answer
        self._opened = opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve it."""
        async with self._opened:
            await self._answer(scope, receive, send)
