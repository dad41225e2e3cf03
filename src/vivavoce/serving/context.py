"""What every route of one server needs, kept on the application."""

from __future__ import annotations

from dataclasses import dataclass, field

from starlette.requests import HTTPConnection

from vivavoce.serving.drain import InFlight
from vivavoce.serving.keys import KeyRing
from vivavoce.serving.playing import Playing
from vivavoce.settings import Settings
from vivavoce.speech.service import SpeechService


@dataclass(frozen=True, slots=True)
class ServerContext:
    """The service, its settings, what is in flight, playback where it is on, and the keys."""

    service: SpeechService
    settings: Settings
    in_flight: InFlight = field(default_factory=InFlight)
    playing: Playing | None = None
    ring: KeyRing = field(default_factory=lambda: KeyRing(()))


def context_of(connection: HTTPConnection) -> ServerContext:
    """The context of the application that serves a request."""
    context = connection.app.state.context
    assert isinstance(context, ServerContext)
    return context
