"""Asking a server to speak on its own loudspeaker, and how long it takes to answer."""

from __future__ import annotations

from typing import Any

import httpx

from vivavoce.bench.clients.base import Target, failure_from, now_s
from vivavoce.bench.heard import Breakdown, break_down, server_times
from vivavoce.errors import Unavailable, Unsupported

PLAY_PATH = "/v1/audio/play"


class PlayClient:
    """Speaks through ``/v1/audio/play`` of one server."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._client = httpx.AsyncClient(
            base_url=target.url, headers=target.headers, timeout=target.timeout_s, trust_env=False
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def play(self, text: str, wait: str, seed: int) -> tuple[float, Breakdown | None, float]:
        """Ask once: milliseconds until the answer, their parts, and seconds of sound.

        Raises Unsupported where the server does not play, Unavailable where it cannot be reached
        or refuses.
        """
        body = {**self._target.payload(text), "wait": wait, "seed": seed}
        body.pop("sample_rate", None)
        sent_s = now_s()
        answer = await self._post(PLAY_PATH, body)
        waited_ms = (now_s() - sent_s) * 1000
        server = server_times(answer.headers.get("server-timing"))
        parts = None if server is None else break_down(waited_ms, server)
        return waited_ms, parts, float(answer.json()["audio_s"])

    async def stop(self) -> None:
        """End everything that is playing. Raises as ``play``."""
        await self._post(f"{PLAY_PATH}/stop", {})

    async def _post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        try:
            answer = await self._client.post(path, json=body)
        except httpx.HTTPError as error:
            raise Unavailable(f"No server answers at {self._target.url}: {error}") from error
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise Unsupported(
                "That server does not play; start it with --set playback=device or playback=null."
            )
        if answer.is_error:
            try:
                told: Any = answer.json()
            except ValueError:
                told = None
            failure = failure_from(told, status=answer.status_code, headers=answer.headers)
            raise Unavailable(f"{path}: {failure.message or failure.code}")
        return answer
