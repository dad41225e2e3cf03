"""``/v1/audio/voices``: list the voices, save a cloned one, remove it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect

from vivavoce.serving.body import MAX_TRANSCRIPT_CHARS
from vivavoce.serving.callers import caller, check_within_limits, counted, visible
from vivavoce.serving.context import context_of
from vivavoce.serving.forms import (
    check_cloning,
    check_consent,
    form_body,
    form_fields,
    read_form,
    uploaded_recording,
)
from vivavoce.serving.problems import documented
from vivavoce.serving.session import until_disconnect
from vivavoce.speech.store import MAX_NAME_CHARS
from vivavoce.speech.voices import MAX_CONSENT_CHARS, MAX_DESCRIPTION_CHARS, VoiceLibrary
from vivavoce.types import Voice

router = APIRouter(tags=["voices"])

JSON = "application/json"

_Seen: TypeAlias = tuple[Sequence[Voice], tuple[Voice, ...], Mapping[str, str]]
_LISTINGS: WeakKeyDictionary[VoiceLibrary, tuple[_Seen, bytes]] = WeakKeyDictionary()


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
    """The text fields of the form."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(
        min_length=1,
        max_length=4 * MAX_NAME_CHARS,
        description=f"1 to {MAX_NAME_CHARS} letters of any script, digits, spaces, '_', '-', '.'.",
    )
    ref_text: str | None = Field(
        None, max_length=MAX_TRANSCRIPT_CHARS, description="What the recording says, if known."
    )
    description: str = Field("", max_length=MAX_DESCRIPTION_CHARS)
    consent: str = Field(
        "", max_length=MAX_CONSENT_CHARS, description="How the speaker agreed; kept with the voice."
    )


class VoiceForm(VoiceFields):
    """The whole form, for the description only."""

    audio_sample: str = Field(
        description="The recording; may also be sent as 'file'.",
        json_schema_extra={"format": "binary"},
    )


@router.get(
    "/v1/audio/voices",
    summary="List the voices",
    response_model=VoiceList,
    responses=documented(503),
)
async def list_voices(request: Request) -> Response:
    """Built-in voices, the default one first; saved ones; then other servers' names."""
    service = context_of(request).service
    service.lifecycle.check_open()
    who = caller.get()
    if who is not None and who.voice_lists:
        library = service.voices
        own = visible(service, [*library.builtin(), *library.saved()])
        return Response(_list_of(_entries((), own, library.aliases())), media_type=JSON)
    return Response(_listing(service.voices), media_type=JSON)


@router.post(
    "/v1/audio/voices",
    summary="Save a cloned voice",
    response_model=SavedVoice,
    responses=documented(400, 409, 413, 429, 500, 503, 504, 507),
    openapi_extra=form_body(VoiceForm),
)
async def save_voice(request: Request) -> SavedVoice:
    """Clones the voice of a recording and keeps it under a name; it survives a restart.

    Whoever hangs up takes the order back.
    """
    context = context_of(request)
    context.service.lifecycle.check_open()
    check_within_limits(context.service, "voices")
    check_cloning(context)
    saved: list[Voice] = []
    async with read_form(request) as form:
        fields = form_fields(form, VoiceFields)
        check_consent(context, fields.consent)
        recording = uploaded_recording(form, fields.ref_text, "audio_sample", "file")

        async def save() -> None:
            with counted(context.service, "voices"):
                voice = await context.service.save_voice(
                    fields.name, recording, fields.description, fields.consent
                )
            saved.append(voice)

        if not await until_disconnect(request.receive, save()):
            raise ClientDisconnect
    voice = saved[0]
    return SavedVoice(id=voice.id, name=voice.name or voice.id, created_at=voice.created_at_s)


@router.delete(
    "/v1/audio/voices/{voice_id}",
    summary="Remove a saved voice",
    responses=documented(400, 404, 500, 503),
)
async def delete_voice(request: Request, voice_id: str) -> DeletedVoice:
    """Removes also what is left of a damaged voice. Built-in voices cannot be removed."""
    service = context_of(request).service
    service.lifecycle.check_open()
    await asyncio.to_thread(service.voices.delete, voice_id)
    return DeletedVoice(id=voice_id)


def _listing(library: VoiceLibrary) -> bytes:
    """A ``VoiceList`` as JSON, made anew only when a voice was added, replaced or removed."""
    seen = (library.saved(), tuple(library.builtin()), library.aliases())
    known, body = _LISTINGS.get(library, (None, b""))
    if known is None or known[0] is not seen[0] or known[1:] != seen[1:]:
        body = _list_of(_entries(*seen))
        _LISTINGS[library] = seen, body
    return body


def _list_of(entries: list[dict[str, Any]]) -> bytes:
    """A ``VoiceList``, whose two keys hold the same entries."""
    told = json.dumps(entries, ensure_ascii=False, separators=(",", ":"))
    body = f'{{"voices":{told},"object":"list","data":{told}}}'
    return body.encode("utf-8", "backslashreplace")


def _entries(
    saved: Sequence[Voice], builtin: Sequence[Voice], aliases: Mapping[str, str]
) -> list[dict[str, Any]]:
    own = {voice.id: voice for voice in (*builtin, *saved)}
    listed = [_entry(voice) for voice in own.values()]
    for name, meant in aliases.items():
        if name not in own and meant in own:
            listed.append(_entry(own[meant]) | {"id": name, "name": name, "alias_of": meant})
    return listed


def _entry(voice: Voice) -> dict[str, Any]:
    return {
        "id": voice.id,
        "name": voice.name or voice.id,
        "object": "audio.voice",
        "kind": voice.kind,
        "languages": list(voice.languages),
        "description": voice.description,
        "created_at": voice.created_at_s,
        "alias_of": None,
    }
