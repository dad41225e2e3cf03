"""``POST /v1/client_tokens``: a key asks for a token that a browser or a phone may hold."""

from __future__ import annotations

import math
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from vivavoce.errors import InputError, NotFound, VoiceNotAllowed, shown
from vivavoce.serving.body import json_body, read_json, whole_number
from vivavoce.serving.callers import Caller, caller, may_speak_as
from vivavoce.serving.client_tokens import ClientToken, sign
from vivavoce.serving.context import ServerContext, context_of
from vivavoce.serving.origins import Origin
from vivavoce.serving.problems import documented

DEFAULT_TTL_S = 300
MAX_TTL_S = 3_600
MAX_VOICE_CHARS = 128
MAX_ORIGIN_CHARS = 255

router = APIRouter(tags=["keys"])

Seconds = Annotated[int, Field(ge=1, le=MAX_TTL_S), BeforeValidator(whole_number)]
Count = Annotated[int, Field(ge=1, le=1_000), BeforeValidator(whole_number)]


class TokenBody(BaseModel):
    """What the token is to be good for. An unknown field is refused: it may be a limit misspelt."""

    model_config = ConfigDict(strict=True, extra="forbid")

    ttl_s: Seconds = Field(DEFAULT_TTL_S, description="Seconds until it expires.")
    voice: str | None = Field(
        None, min_length=1, max_length=MAX_VOICE_CHARS, description="The only voice to speak as."
    )
    concurrent: Count | None = Field(None, description="Utterances at the same time.")
    origin: str | None = Field(
        None, min_length=1, max_length=MAX_ORIGIN_CHARS, description="The only pages to be used by."
    )


class MintedToken(BaseModel):
    """A token, shown once, and what it is good for."""

    object: str = "client_token"
    token: str
    expires_at: int = Field(description="Unix time in seconds.")
    voice: str | None
    concurrent: int | None
    origin: str | None


@router.post(
    "/v1/client_tokens",
    summary="Make a token for a browser or a phone",
    response_model=MintedToken,
    responses=documented(400, 404, 413, 503),
    openapi_extra=json_body(TokenBody),
)
async def mint(request: Request) -> Response:
    """The token can do no more than the key that asks for it, and ends with it."""
    context, who = context_of(request), caller.get()
    if who is None:
        raise NotFound("This server has no keys, so nobody needs a token.")
    body = await read_json(request, TokenBody)
    if body.voice is not None:
        _check_voice(context, who, body.voice)
    expires_s = math.ceil(context.ring.clock.now_s()) + body.ttl_s
    token = ClientToken.new(expires_s, body.voice, body.concurrent, _origin(body.origin))
    minted = MintedToken(
        token=sign(context.ring, who.key(), token),
        expires_at=token.expires_s,
        voice=token.voice,
        concurrent=token.concurrent,
        origin=token.origin,
    )
    return JSONResponse(minted.model_dump(), headers={"Cache-Control": "no-store"})


def _check_voice(context: ServerContext, who: Caller, voice: str) -> None:
    """Raise UnknownVoice, VoiceNotAllowed, Unavailable."""
    service = context.service
    service.lifecycle.check_open()
    if not may_speak_as(service, who, voice):
        raise VoiceNotAllowed(who.key().voices)
    service.voices.resolve(voice)


def _origin(text: str | None) -> str | None:
    if text is None:
        return None
    origin = Origin.parse(text)
    if origin is None:
        raise InputError(
            f"origin: {shown(text)} is none; write https://app.example.", param="origin"
        )
    return str(origin)
