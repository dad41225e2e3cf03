"""What a key or a token opens: everything but what this table keeps back."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from vivavoce.errors import Forbidden, NotFound
from vivavoce.serving.callers import Caller
from vivavoce.serving.origins import SAFE_METHODS

OPEN_PATHS = frozenset({"/", "/livez", "/readyz", "/health"})
"""Paths that may be read without a key: what load balancers and prewarming clients ask."""

READING = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may use a path, or all below one that ends in a slash; ``safe`` methods or the others.

    ``tokens``: client tokens may, too. ``admin``: a key must have it; ``listed``: a key whose
    voices are listed must.
    """

    path: str
    safe: bool | None = None
    tokens: bool = False
    admin: bool = False
    listed: bool = False

    def applies(self, path: str, method: str) -> bool:
        """Whether it is about that request."""
        below = self.path.endswith("/") and path.startswith(self.path) and self.path != "/"
        safe = method in SAFE_METHODS
        return (below or path == self.path) and self.safe in (None, safe)


RULES = (
    # What all callers share, and what is known of them.
    Rule("/v1/usage", admin=True),
    Rule("/metrics", admin=True),
    Rule("/cache/clear", admin=True),
    Rule("/v1/audio/voices/", safe=False, admin=True),
    # Who speaks as named voices may bring no others.
    Rule("/v1/audio/voices", safe=False, listed=True),
    Rule("/v1/audio/speech/clone", tokens=True, listed=True),
    # A token is for speaking.
    Rule("/v1/client_tokens"),
    Rule("/v1/audio/play"),
    Rule("/v1/audio/play/"),
    Rule("/", safe=False),
)


def check_path(path: str) -> None:
    """Raise NotFound for a path with control characters, which these rules do not name.

    The patterns of Starlette's routes end in ``$``, which also matches before a last line feed:
    behind ``/v1/usage%0A`` there is ``/v1/usage``.
    """
    if any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in path):
        raise NotFound("There is nothing at a path with control characters.")


def is_open(path: str, method: str) -> bool:
    """Whether a request needs no key."""
    return path in OPEN_PATHS and method.upper() in READING


def check_access(who: Caller, path: str, method: str) -> None:
    """Raise Forbidden where this caller may not do that; Unauthorized where the key is gone."""
    key = who.key()
    for rule in RULES:
        if not rule.applies(path, method.upper()):
            continue
        if who.token is not None and not rule.tokens:
            raise Forbidden("A client token may speak, and nothing else; this takes a key.")
        if rule.admin and not key.admin:
            raise Forbidden("This takes a key with admin.")
        if rule.listed and who.voice_lists and not key.admin:
            raise Forbidden("This caller may speak as named voices only, not bring others.")
