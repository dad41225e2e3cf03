"""One request over one new connection, without an event loop: for quiet one-by-one timings."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from vivavoce.bench.clients.base import OPENAI_PCM_RATE_HZ, failure_from, now_s
from vivavoce.bench.clients.sound import BodyReader
from vivavoce.bench.heard import Failure, Listening, Measure, Recorder

_READ_BYTES = 65_536
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class PlainSpeaker:
    """A server, its path, the JSON field that holds the text, and what else goes with it.

    Takes mono s16le, bare or in a WAV. With ``hang_up_after_s`` it closes the connection so long
    after the first sound; that measure has the failure ``hung_up``.
    """

    url: str
    path: str = "/v1/audio/speech"
    field: str = "input"
    more: Mapping[str, Any] | None = None

    def speak(self, text: str, *, hang_up_after_s: float | None = None) -> Measure:
        """Ask and read the answer as it comes. Raises OSError where there is no server."""
        address = urlsplit(self.url)
        recorder = Recorder(text, now_s(), Listening())
        body = json.dumps({self.field: text, **(self.more or {})})
        connection = http.client.HTTPConnection(
            address.hostname or "", address.port, timeout=_TIMEOUT_S
        )
        with contextlib.closing(connection):
            connection.request("POST", self.path, body, {"Content-Type": "application/json"})
            with connection.getresponse() as answer:
                failure = _read(answer, recorder, hang_up_after_s)
        return recorder.finish(now_s(), failure)


def _read(
    answer: http.client.HTTPResponse, recorder: Recorder, hang_up_after_s: float | None
) -> Failure | None:
    if answer.status != http.client.OK:
        return _refusal(answer)
    rate_hz = int(answer.getheader("X-PCM-Sample-Rate", str(OPENAI_PCM_RATE_HZ)))
    body = BodyReader(recorder, rate_hz)
    try:
        while data := answer.read1(_READ_BYTES):
            if body.feed(now_s(), data) and hang_up_after_s is not None:
                time.sleep(hang_up_after_s)
                return Failure("hung_up")
    except (http.client.IncompleteRead, ConnectionError) as error:
        return Failure("truncated", message=str(error))
    return None


def _refusal(answer: http.client.HTTPResponse) -> Failure:
    try:
        body = json.loads(answer.read())
    except ValueError:
        body = None
    headers = {name.lower(): value for name, value in answer.getheaders()}
    return failure_from(body, status=answer.status, headers=headers)
