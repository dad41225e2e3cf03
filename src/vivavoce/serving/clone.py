"""``POST /v1/audio/speech/clone``: speak once in the voice of a recording that comes along."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from vivavoce.audio.containers.catalogue import MAX_RATE_HZ, MIN_RATE_HZ
from vivavoce.errors import InputError, Unsupported
from vivavoce.serving.callers import check_within_limits
from vivavoce.serving.context import ServerContext, context_of
from vivavoce.serving.framing import Framing
from vivavoce.serving.reading import form_fields, form_file, read_form
from vivavoce.serving.recordings import read_recording
from vivavoce.serving.speaking import SpeechOrder, SpeechResponse
from vivavoce.serving.speech_answers import (
    encoding_media_types,
    form_body,
    report_invalid,
    speech_responses,
)
from vivavoce.serving.speech_body import MAX_SEED, ResponseFormat
from vivavoce.types import ReferenceAudio, Sampling, SpeechRequest

router = APIRouter(tags=["speech"])


class CloneFields(BaseModel):
    """The text fields of the form."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    input: str = Field(min_length=1, description="The text to speak.")
    ref_text: str | None = Field(None, description="What the recording says, if known.")
    language: str | None = None
    response_format: ResponseFormat = "wav"
    speed: float = Field(1.0, ge=0.25, le=4.0)
    sample_rate: int | None = Field(None, ge=MIN_RATE_HZ, le=MAX_RATE_HZ)
    temperature: float | None = Field(None, ge=0.0, le=2.0)
    top_p: float | None = Field(None, gt=0.0, le=1.0)
    seed: int | None = Field(None, ge=0, le=MAX_SEED)
    stream: bool = Field(False, description="Send the sound as it is made, not as a whole file.")

    def to_request(self, reference: ReferenceAudio) -> SpeechRequest:
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
    try:
        return await _clone(context, request)
    except InputError as error:
        report_invalid(context, error, "http")
        raise


async def _clone(context: ServerContext, request: Request) -> Response:
    context.service.lifecycle.check_open()
    check_within_limits(context.service, "http")
    check_cloning(context)
    async with read_form(request) as form:
        fields = form_fields(form, CloneFields)
        data = await form_file(form, "file")
    reference = await read_recording(data, fields.ref_text, "file")
    unknown = tuple(name for name in fields.model_extra or () if name != "file")
    order = SpeechOrder(
        fields.to_request(reference), fields.response_format, fields.sample_rate, unknown
    )
    return SpeechResponse(context, order, Framing(), whole=not fields.stream)


def check_cloning(context: ServerContext) -> None:
    """Raise Unsupported where the engine cannot clone, before an upload is decoded."""
    info = context.service.engine.info
    if not info.capabilities.cloning:
        raise Unsupported(f"The engine {info.name!r} cannot clone voices.", param="file")
