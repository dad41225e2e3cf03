"""The address: whether it may be bound, and the bound socket.

Apart from the server, because a supervisor needs it too, and none of what a server imports.
"""

from __future__ import annotations

import socket

from vivavoce.errors import SettingsError
from vivavoce.serving.origins import is_loopback
from vivavoce.settings import Settings

BACKLOG = 2_048


def check_bind(settings: Settings) -> None:
    """Raise SettingsError for a public address that anybody could use without a key."""
    if settings.has_keys or settings.allow_public_without_key or is_loopback(settings.host):
        return
    raise SettingsError(
        f"Binding {settings.host} lets everybody in: set VIVAVOCE_API_KEYS, or"
        " VIVAVOCE_ALLOW_PUBLIC_WITHOUT_KEY=true if that is meant.",
        param="host",
    )


def listen(settings: Settings) -> socket.socket:
    """The bound socket. Raises SettingsError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise SettingsError(
            f"Cannot listen on {where}: {error.strerror or error}.", param="port"
        ) from error
