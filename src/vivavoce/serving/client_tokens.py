"""Client tokens: what an app's server gives to a browser or a phone instead of its key.

A token is ``vvt_PAYLOAD.SIGNATURE``, both base64url: the payload is JSON that says until when, as
which voice, how much at once and for pages of which origin; the signature is HMAC-SHA256 over it.
Nothing is stored, so that every server with the same keys knows it, after a restart, too.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from vivavoce.errors import TokenExpired, Unauthorized
from vivavoce.key_table import MAX_KEYS
from vivavoce.serving.keys import ApiKey, KeyRing, keys_of
from vivavoce.settings import Settings

PREFIX = b"vvt_"
MAX_TOKEN_BYTES = 1_024
PURPOSE = b"vivavoce client token 1"
SLOW_ROUNDS = 50_000
"""Of PBKDF2, where keys sign: else a token's holder could try out billions of keys a second."""


@dataclass(frozen=True, slots=True)
class ClientToken:
    """What a token says. ``expires_s`` is Unix time; None is no limit beyond the key's own."""

    id: str
    expires_s: int
    voice: str | None = None
    concurrent: int | None = None
    origin: str | None = None

    @classmethod
    def new(
        cls,
        expires_s: int,
        voice: str | None = None,
        concurrent: int | None = None,
        origin: str | None = None,
    ) -> ClientToken:
        """One with an id of its own, by which its utterances are counted."""
        return cls(secrets.token_urlsafe(9), expires_s, voice, concurrent, origin)

    def check_time(self, ring: KeyRing) -> None:
        """Raise TokenExpired once its time is over."""
        if ring.clock.now_s() >= self.expires_s:
            raise TokenExpired("The client token has expired; ask for a new one.")


def sign(ring: KeyRing, key: ApiKey, token: ClientToken) -> str:
    """The token as text, good for as long as ``key`` is."""
    said = {name: value for name, value in asdict(token).items() if value is not None}
    payload = _encode(json.dumps(said | {"key": _hint(key)}, separators=(",", ":")).encode())
    signature = _encode(_signature(ring, key, payload))
    return (PREFIX + payload + b"." + signature).decode()


def verify(ring: KeyRing, text: bytes) -> tuple[ApiKey, ClientToken]:
    """Whose token it is and what it says.

    Raises TokenExpired, and Unauthorized for what no key in force has signed.
    """
    payload, _, signature = text.removeprefix(PREFIX).partition(b".")
    said = _read(payload) if len(text) <= MAX_TOKEN_BYTES else None
    hint = None if said is None else said.pop("key", None)
    for key in ring.keys if said is not None else ():
        if _hint(key) == hint and hmac.compare_digest(
            _encode(_signature(ring, key, payload)), signature
        ):
            token = ClientToken(**said)  # type: ignore[arg-type]
            token.check_time(ring)
            return key, token
    raise Unauthorized("The client token is not good here: no key of this server has signed it.")


def derive_signing_keys(settings: Settings) -> None:
    """Do the slow part for every key of the settings, before the first token of any of them.

    It takes 16 ms a key, which an event loop does not have.
    """
    for key in keys_of(settings):
        _signing_key(settings.token_secret, key.digest)


def _signature(ring: KeyRing, key: ApiKey, payload: bytes) -> bytes:
    return hmac.digest(_signing_key(ring.token_secret, key.digest), payload, "sha256")


@lru_cache(maxsize=2 * MAX_KEYS)
def _signing_key(secret: str, digest: bytes) -> bytes:
    """Of one key, so that its tokens go with it and other keys may come and go."""
    if secret:
        return hmac.digest(secret.encode(), PURPOSE + digest, "sha256")
    return hashlib.pbkdf2_hmac("sha256", digest, PURPOSE, SLOW_ROUNDS)


def _hint(key: ApiKey) -> str:
    """Which keys to try; nothing that a key could be guessed by.

    Plain keys are named by their place, which need not be the same on every server.
    """
    name = "plain" if key.name.startswith("api_keys[") else key.name
    return hashlib.sha256(name.encode()).hexdigest()[:12]


def _read(payload: bytes) -> dict[str, Any] | None:
    try:
        said = json.loads(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
