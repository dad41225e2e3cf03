"""Playback on the server's own machine: ``/v1/audio/play``, and ``POST /`` for older clients.

Both are there where the setting ``playback`` is not off. Synthesis never waits for playback.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from vivavoce.errors import InputError, NotFound, VivavoceError
from vivavoce.serving.body import Model, SpeechBody, json_body, read_json
from vivavoce.serving.context import context_of
from vivavoce.serving.dialects.openai import check_model
from vivavoce.serving.loudspeaker import Loudspeaker, Play, PlayOrder, State, Wait
from vivavoce.serving.outputs import encoding_of
from vivavoce.serving.problems import documented, problem_response
from vivavoce.serving.session import header_names, invalid_counted, until_disconnect
from vivavoce.types import SpeechRequest

router = APIRouter(tags=["playback"])

DEFAULT_OUTPUT = "tts_output.wav"
_ERRORS = documented(400, 404, 413, 429, 500, 503, 504)
_WAIT = "start: when the first sound is queued; done: when all is made; played: when it was heard."


class PlayBody(SpeechBody):
    """What to speak aloud, and when to answer."""

    model: str | None = Field(None, description="As in /v1/audio/speech.")
    wait: Wait = Field("done", description=_WAIT)


class TextBody(BaseModel):
    """What the server of older clients took: a text, a voice, a file to write."""

    model_config = ConfigDict(strict=True, extra="allow")

    text: str = Field(min_length=1, description="The text; more than white space.")
    voice: str | None = None
    output: str | None = Field(
        None, description=f"A file below the setting output_dir; {DEFAULT_OUTPUT} if not said."
    )
    wait: Wait = Field("done", description=_WAIT)


class Played(BaseModel):
    """What became of it. Milliseconds; null is what was not waited for."""

    object: str = "audio.play"
    state: State = Field(description="stopped: somebody skipped it, or stopped all.")
    ahead: int = Field(description="Utterances that were before it in the queue.")
    audio_s: float = Field(description="Seconds of sound made until now.")
    queue_ms: float = Field(description="Waiting for a slot.")
    first_audio_ms: float | None = Field(description="Until the first sound, queue included.")
    total_ms: float | None = Field(description="Until all was made.")
    playback_ms: float | None = Field(description="Waiting for playback after that.")


class Answered(Played):
    """The same, as older clients read it."""

    status: str = Field("ok", description="ok, or stopped.")
    output: str | None = Field(None, description="The file that is or will be there, as asked for.")


class FailedLater(BaseModel):
    """An utterance that went wrong after its request was answered."""

    code: str
    message: str
    at: float = Field(description="Unix time in seconds.")


class PlaybackState(BaseModel):
    """What is going on."""

    playback: str
    playing: bool
    queued: int = Field(description="Utterances, the one that is playing included.")
    seconds: float = Field(description="Sound that was made and not yet heard.")
    failures: list[FailedLater] = Field(
        description="The last that no answer could tell, the oldest first."
    )


class Ended(BaseModel):
    """How many utterances were ended."""

    ended: int


@router.post(
    "/v1/audio/play",
    summary="Speak a text on the server's loudspeaker",
    response_model=Played,
    responses=_ERRORS,
    openapi_extra=json_body(PlayBody),
)
async def play(request: Request) -> Response:
    """Utterances are heard one after the other, in the order in which they came."""
    playing = _playing(request)
    body = await _read(request, PlayBody)
    check_model(body.model, context_of(request).service.engine.info)
    unknown = body.unknown_fields + (("sample_rate",) if body.sample_rate else ())
    return PlayResponse(playing, PlayOrder(body.to_request(), body.wait), unknown)


@router.get("/v1/audio/play", summary="What is playing", responses=documented(404))
async def state(request: Request) -> PlaybackState:
    """What is heard now, what waits, and what went wrong lately."""
    playing = _playing(request)
    queue = playing.queue.state
    return PlaybackState(
        playback=context_of(request).settings.playback,
        playing=queue.playing,
        queued=queue.turns,
        seconds=round(queue.queued_s, 3),
        failures=[
            FailedLater(
                code=failure.error.code, message=failure.error.message, at=round(failure.at_s, 3)
            )
            for failure in list(playing.failures)
        ],
    )


@router.post("/v1/audio/play/skip", summary="End what is playing", responses=documented(404, 413))
async def skip(request: Request) -> Ended:
    """Falls silent at once, frees the engine's slot, and goes on with the next."""
    return Ended(ended=await _playing(request).skip())


@router.post("/v1/audio/play/stop", summary="End everything", responses=documented(404, 413))
async def stop(request: Request) -> Ended:
    """Falls silent at once; nothing is left in the queue."""
    return Ended(ended=await _playing(request).stop())


@router.post(
    "/",
    summary="Speak a text aloud and into a file",
    response_model=Answered,
    responses=_ERRORS,
    openapi_extra=json_body(TextBody),
)
async def play_text(request: Request) -> Response:
    """For clients of a server that played before it answered: this one answers when it is made."""
    playing = _playing(request)
    body = await _read(request, TextBody)
    name = body.output or (DEFAULT_OUTPUT if playing.outputs.root else None)
    spoken = SpeechRequest(text=body.text, voice=body.voice or None)
    order = PlayOrder(spoken, body.wait)
    if name is not None:
        path = playing.outputs.path(name)
        order = PlayOrder(spoken, body.wait, path, encoding_of(path))
    unknown = tuple(body.model_extra or ())
    return PlayResponse(playing, order, unknown, {"status": "ok", "output": name})


class PlayResponse(Response):
    """Speaks and plays one order, then answers in JSON; ``more`` are fields beyond ``Played``."""

    def __init__(
        self,
        playing: Loudspeaker,
        order: PlayOrder,
        unknown_fields: tuple[str, ...],
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self._playing = playing
        self._order = order
        self._unknown_fields = unknown_fields
        self._more = more

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve it; a client that leaves before the answer takes its order back."""
        await until_disconnect(receive, self._answer(scope, receive, send))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            play = await self._playing.play(self._order)
        except VivavoceError as error:
            await problem_response(error)(scope, receive, send)
            return
        fields = _fields(play)
        if self._more is not None:
            stopped = {"status": "stopped", "output": None} if play.state == "stopped" else {}
            fields |= dict(self._more) | stopped
        await JSONResponse(fields, headers=self._headers_of(play))(scope, receive, send)

    def _headers_of(self, play: Play) -> dict[str, str]:
        headers = {"Server-Timing": _server_timing(play)}
        if (stream := play.stream) is not None:
            headers["X-Cache"] = "hit" if stream.timings.cached else "miss"
            headers["X-Vivavoce-Voice"] = quote(stream.voice.id if stream.voice else "")
            if ignored := header_names(self._unknown_fields, stream.ignored):
                headers["X-Ignored-Fields"] = ", ".join(ignored)
        return headers


def _fields(play: Play) -> dict[str, Any]:
    timings = play.timings
    return Played(
        state=play.state,
        ahead=play.ahead,
        audio_s=round(timings.audio_s, 3),
        queue_ms=round(timings.queue_ms, 1),
        first_audio_ms=_rounded(timings.first_audio_ms),
        total_ms=_rounded(timings.total_ms),
        playback_ms=_rounded(play.playback_ms),
    ).model_dump()


def _server_timing(play: Play) -> str:
    timings = play.timings
    named = {
        "queue": timings.queue_ms,
        "first": timings.first_audio_ms,
        "total": timings.total_ms,
        "playback": play.playback_ms,
    }
    return ", ".join(f"{name};dur={ms:.1f}" for name, ms in named.items() if ms is not None)


def _rounded(value_ms: float | None) -> float | None:
    return None if value_ms is None else round(value_ms, 1)


def _playing(request: Request) -> Loudspeaker:
    playing = context_of(request).playing
    if playing is None:
        raise NotFound("Playback is switched off; 'vivavoce serve --set playback=device' has it.")
    return playing


async def _read(request: Request, model: type[Model]) -> Model:
    with invalid_counted(context_of(request).service, "play"):
        # Pages of strangers can send anything but this without asking the browser's leave.
        if not request.headers.get("content-type"):
            raise InputError("Content-Type must be application/json.")
        return await read_json(request, model)
