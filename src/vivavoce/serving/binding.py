"""The address: whether it may be bound, and the bound socket.

Apart from the server, because a supervisor needs it too, and none of what a server imports.
"""

from __future__ import annotations

import socket

from vivavoce.errors import SettingsError
from vivavoce.serving.connections import connections_that_fit
from vivavoce.serving.origins import is_loopback
from vivavoce.settings import Settings

MAX_BACKLOG = 2_048


def check_bind(settings: Settings) -> None:
    """Raise SettingsError for a public address that anybody could use without a key."""
    if settings.has_keys or settings.allow_public_without_key or is_loopback(settings.host):
        return
    raise SettingsError(
        f"Binding {settings.host} lets everybody in: set VIVAVOCE_API_KEYS, or"
        " VIVAVOCE_ALLOW_PUBLIC_WITHOUT_KEY=true if that is meant.",
        param="host",
    )


def backlog(settings: Settings) -> int:
    """Connections that may wait to be accepted.

    All of them are accepted in one go, before any is counted, so together with those that are
    counted already they must not take every file that the process may open.
    """
    return min(MAX_BACKLOG, connections_that_fit(settings.max_connections))


def listen(settings: Settings) -> socket.socket:
    """The bound socket. Raises SettingsError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server(
            (settings.host, settings.port), family=family, backlog=backlog(settings)
        )
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise SettingsError(
            f"Cannot listen on {where}: {error.strerror or error}.", param="port"
        ) from error
