"""``/v1/audio/voices``: list the voices, save a cloned one, remove it."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from vivavoce.serving.callers import check_within_limits, counted, visible
from vivavoce.serving.clone import check_cloning
from vivavoce.serving.context import context_of
from vivavoce.serving.problems import documented
from vivavoce.serving.reading import form_fields, form_file, read_form
from vivavoce.serving.recordings import read_recording
from vivavoce.serving.speech_answers import form_body
from vivavoce.types import Voice

router = APIRouter(tags=["voices"])


class VoiceEntry(BaseModel):
    """A voice that requests may name."""

    id: str
    name: str
    object: str = "audio.voice"
    kind: str
    languages: list[str]
    description: str
    created_at: int
    alias_of: str | None = Field(None, description="The voice that another server's name means.")


class VoiceList(BaseModel):
    """The same voices under both keys: ``voices`` for Open WebUI, ``data`` for OpenAI's shape."""

    voices: list[VoiceEntry]
    object: str = "list"
    data: list[VoiceEntry]


class SavedVoice(BaseModel):
    """A voice that was just saved."""

    object: str = "audio.voice"
    id: str
    name: str
    created_at: int


class DeletedVoice(BaseModel):
    """A voice that is no more."""

    object: str = "audio.voice.deleted"
    id: str
    deleted: bool = True


class VoiceFields(BaseModel):
    """The text fields of the form; OpenAI's ``consent`` is accepted and not looked at."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    ref_text: str | None = Field(None, description="What the recording says, if known.")
    description: str = ""
    consent: str | None = None


class VoiceForm(VoiceFields):
    """The whole form, for the description only."""

    audio_sample: str = Field(
        description="The recording; may also be sent as 'file'.",
        json_schema_extra={"format": "binary"},
    )


@router.get("/v1/audio/voices", summary="List the voices", responses=documented(503))
async def list_voices(request: Request) -> VoiceList:
    """Built-in voices, the default one first; saved ones; then other servers' names."""
    service = context_of(request).service
    service.lifecycle.check_open()
    voices = visible(service, [*service.voices.builtin(), *service.voices.saved()])
    own = [_entry(voice) for voice in voices]
    taken = {entry.id for entry in own}
    named = [(name, service.voices.resolve(name)) for name in service.voices.aliases()]
    aliases = [
        _alias(name, voice) for name, voice in named if name not in taken and voice.id in taken
    ]
    return VoiceList(voices=own + aliases, data=own + aliases)


@router.post(
    "/v1/audio/voices",
    summary="Save a cloned voice",
    responses=documented(400, 409, 413, 429, 500, 503),
    openapi_extra=form_body(VoiceForm),
)
async def save_voice(request: Request) -> SavedVoice:
    """Clones the voice of a recording and keeps it under a name; it survives a restart."""
    context = context_of(request)
    context.service.lifecycle.check_open()
    check_within_limits(context.service, "voices")
    check_cloning(context)
    async with read_form(request) as form:
        fields = form_fields(form, VoiceFields)
        data = await form_file(form, "audio_sample", "file")
    reference = await read_recording(data, fields.ref_text, "audio_sample")
    with counted(context.service, "voices"):
        voice = await context.service.save_voice(fields.name, reference, fields.description)
    return SavedVoice(id=voice.id, name=voice.name or voice.id, created_at=voice.created_at_s)


@router.delete(
    "/v1/audio/voices/{voice_id}",
    summary="Remove a saved voice",
    responses=documented(400, 404, 503),
)
async def delete_voice(request: Request, voice_id: str) -> DeletedVoice:
    """Built-in voices cannot be removed."""
    service = context_of(request).service
    service.lifecycle.check_open()
    service.voices.delete(voice_id)
    return DeletedVoice(id=voice_id)


def _entry(voice: Voice) -> VoiceEntry:
    return VoiceEntry(
        id=voice.id,
        name=voice.name or voice.id,
        kind=voice.kind,
        languages=list(voice.languages),
        description=voice.description,
        created_at=voice.created_at_s,
        alias_of=None,
    )


def _alias(name: str, voice: Voice) -> VoiceEntry:
    entry = _entry(voice)
    return entry.model_copy(update={"id": name, "name": name, "alias_of": voice.id})
