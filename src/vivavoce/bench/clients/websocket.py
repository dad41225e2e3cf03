"""Speech over WebSocket: one JSON message per text, binary sound and JSON events back.

Events: ``start`` (with ``sample_rate``), ``done``, ``error``. A connection that ended its text
well is used again; any other is closed.
"""

from __future__ import annotations

import asyncio
import json

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.protocol import State

from vivavoce.bench.clients.base import OPENAI_PCM_RATE_HZ, Target, failure_from, now_s
from vivavoce.bench.heard import Failure, Measure, Recorder


class WebSocketSpeaker:
    """Asks over a pool of kept connections; one text at a time on each."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._idle: list[ClientConnection] = []

    async def aclose(self) -> None:
        """Close every connection."""
        await asyncio.gather(*(connection.close() for connection in self._idle))
        self._idle.clear()

    async def speak(self, text: str, recorder: Recorder) -> Measure:
        """Ask for one text; a socket that closes before ``done`` is a failure."""
        recorder.sent(now_s())
        connection: ClientConnection | None = None
        failure: Failure | None
        try:
            async with asyncio.timeout(self._target.timeout_s):
                connection = await self._connection()
                failure = await self._exchange(connection, text, recorder)
        except TimeoutError:
            failure = Failure("timeout")
        except ConnectionClosed as error:
            failure = Failure("truncated", message=str(error))
        except InvalidStatus as error:
            answer = error.response
            failure = failure_from(None, status=answer.status_code, headers=answer.headers)
        except (ValueError, KeyError) as error:
            failure = Failure("protocol", message=f"An event that cannot be read: {error}")
        except (OSError, WebSocketException) as error:
            failure = Failure("unreachable", message=str(error))
        measure = recorder.finish(now_s(), failure)
        if connection is not None:
            await self._keep_or_close(connection, good=failure is None)
        return measure

    async def _connection(self) -> ClientConnection:
        while self._idle:
            kept = self._idle.pop()
            if kept.state is State.OPEN:
                return kept
        # Compressing sound costs time and saves nothing.
        return await connect(
            self._target.endpoint,
            additional_headers=self._target.headers,
            compression=None,
            max_size=None,
            proxy=None,
        )

    async def _keep_or_close(self, connection: ClientConnection, *, good: bool) -> None:
        if good:
            self._idle.append(connection)
        else:
            await connection.close()

    async def _exchange(
        self, connection: ClientConnection, text: str, recorder: Recorder
    ) -> Failure | None:
        await connection.send(json.dumps(self._target.payload(text)))
        announced = False
        while True:
            message = await connection.recv()
            at_s = now_s()
            if isinstance(message, bytes):
                if not announced:
                    recorder.format(self._target.sample_rate_hz or OPENAI_PCM_RATE_HZ)
                    announced = True
                recorder.pcm(at_s, message)
                continue
            event = json.loads(message)
            match event.get("event"):
                case "start":
                    recorder.format(int(event["sample_rate"]))
                    announced = True
                case "done":
                    return None
                case "error":
                    return failure_from(event)
