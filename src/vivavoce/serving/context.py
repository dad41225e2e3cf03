"""What every route of one server needs, kept on the application."""

from __future__ import annotations

from dataclasses import dataclass, field

from starlette.requests import HTTPConnection

from vivavoce.serving.keys import KeyRing
from vivavoce.serving.loudspeaker import Loudspeaker
from vivavoce.serving.middleware import InFlight
from vivavoce.serving.waiting import SpoolSpace, WaitingTexts
from vivavoce.settings import Settings
from vivavoce.speech.service import SpeechService


@dataclass(frozen=True, slots=True)
class ServerContext:
    """The service, its settings, and what its routes share: what is in flight, keys, bounds.

    ``playing`` is None where playback is off.
    """

    service: SpeechService
    settings: Settings
    in_flight: InFlight = field(default_factory=InFlight)
    playing: Loudspeaker | None = None
    ring: KeyRing = field(default_factory=lambda: KeyRing(()))
    spool: SpoolSpace = field(default_factory=SpoolSpace)
    waiting: WaitingTexts = field(default_factory=WaitingTexts)


def context_of(connection: HTTPConnection) -> ServerContext:
    """The context of the application that serves a request."""
    context = connection.app.state.context
    assert isinstance(context, ServerContext)
    return context
