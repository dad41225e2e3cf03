"""Speech over HTTP: one POST per text, the body read as it arrives."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx

from vivavoce.bench.clients.base import OPENAI_PCM_RATE_HZ, Target, failure_from, now_s
from vivavoce.bench.clients.sound import BodyReader
from vivavoce.bench.heard import Failure, Measure, Recorder, server_times
from vivavoce.errors import InvalidAudio

# Shorter than the 5 s after which uvicorn closes an idle connection, so that none is lost mid-way.
_KEEP_ALIVE_S = 4.0
_DEFAULT_MODEL = "tts-1"


class HttpSpeaker:
    """Asks over a pool of kept connections, as large as needed."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._client = httpx.AsyncClient(
            headers={"Accept-Encoding": "identity", **target.headers},
            limits=httpx.Limits(
                max_connections=None,
                max_keepalive_connections=None,
                keepalive_expiry=_KEEP_ALIVE_S,
            ),
            timeout=None,
            trust_env=False,
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def speak(self, text: str, recorder: Recorder) -> Measure:
        """Ask for one text; a body that does not end as HTTP says is a failure."""
        recorder.sent(now_s())
        failure: Failure | None
        try:
            async with asyncio.timeout(self._target.timeout_s):
                failure = await self._exchange(text, recorder)
        except TimeoutError:
            failure = Failure("timeout")
        except httpx.ConnectError as error:
            failure = Failure("unreachable", message=str(error))
        except httpx.HTTPError as error:
            # The server went away, or ended a chunked body without its last chunk.
            failure = Failure("truncated", message=f"{type(error).__name__}: {error}")
        except (InvalidAudio, ValueError) as error:
            # Neither PCM nor WAV, or a sample rate that is no number.
            failure = Failure("not_audio", message=str(error))
        return recorder.finish(now_s(), failure)

    def _body(self, text: str) -> dict[str, Any]:
        body = {"model": _DEFAULT_MODEL, **self._target.payload(text)}
        if not self._target.endpoint.endswith("/pcm"):
            body["response_format"] = self._target.response_format
        return body

    async def _exchange(self, text: str, recorder: Recorder) -> Failure | None:
        request = self._client.stream("POST", self._target.endpoint, json=self._body(text))
        async with request as response:
            if response.status_code != httpx.codes.OK:
                return await _refusal(response)
            kind = response.headers.get("content-type", "")
            if kind.startswith(("application/json", "text/")):
                return Failure("not_audio", response.status_code, message=f"Content-Type: {kind}")
            recorder.told(server_times(response.headers.get("server-timing")))
            announced = response.headers.get("x-pcm-sample-rate")
            rate_hz = int(announced or self._target.sample_rate_hz or OPENAI_PCM_RATE_HZ)
            body = BodyReader(recorder, rate_hz)
            async for data in response.aiter_raw():
                body.feed(now_s(), data)
        return None


async def _refusal(response: httpx.Response) -> Failure:
    try:
        body = json.loads(await response.aread())
    except ValueError:
        body = None
    return failure_from(body, status=response.status_code, headers=response.headers)
