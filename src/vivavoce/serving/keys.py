"""The keys in force, what each may do, and how much of it was done."""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from vivavoce.errors import RateLimited
from vivavoce.key_table import MIN_SECRET_CHARS, KeyTable, digest_of
from vivavoce.settings import Settings

log = logging.getLogger(__name__)

WINDOW_S = 60.0
RETRY_MS = 1_000
"""When to come again where one's own utterances are in the way: nobody knows their end."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key by its SHA-256 digest; without ``voices`` it may speak as anyone."""

    name: str
    digest: bytes
    requests_per_minute: int | None = None
    concurrent: int | None = None
    voices: tuple[str, ...] = ()
    admin: bool = False

    @classmethod
    def of_table(cls, table: KeyTable) -> ApiKey:
        """A key as the configuration file describes it."""
        return cls(
            table.name,
            bytes.fromhex(table.sha256),
            table.requests_per_minute,
            table.concurrent,
            table.voices or (),
            table.admin,
        )


@dataclass(frozen=True, slots=True)
class Clock:
    """Seconds since 1970, which expiry goes by, and of a clock that is never set."""

    now_s: Callable[[], float] = time.time
    monotonic_s: Callable[[], float] = time.monotonic


class Allowance:
    """What one key is doing: utterances under way, and those begun within the last minute."""

    def __init__(self) -> None:
        self.running = 0
        self._begun_s: deque[float] = deque()

    @contextmanager
    def one(self, key: ApiKey, now_s: float) -> Iterator[None]:
        """One utterance, for as long as the context lasts. Raises RateLimited before it counts."""
        self.check(key, now_s)
        if key.requests_per_minute is not None:
            self._begun_s.append(now_s)
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1

    def check(self, key: ApiKey, now_s: float) -> None:
        """Raise RateLimited where one more utterance would be too many."""
        if key.concurrent is not None and self.running >= key.concurrent:
            raise too_many_at_once(key.concurrent)
        self._check_rate(key.requests_per_minute, now_s)

    def _check_rate(self, most: int | None, now_s: float) -> None:
        """No minute, wherever it begins, sees more than ``most``."""
        while self._begun_s and (most is None or self._begun_s[0] <= now_s - WINDOW_S):
            self._begun_s.popleft()
        if most is not None and len(self._begun_s) >= most:
            # A limit that was lowered meanwhile has more behind it than it allows.
            over = len(self._begun_s) - most
            wait_s = self._begun_s[over] + WINDOW_S - now_s
            raise RateLimited(
                f"This key may speak {most} times a minute.",
                retry_after_ms=max(math.ceil(wait_s * 1000), 1),
            )


def too_many_at_once(most: int) -> RateLimited:
    """What a key or a token is told that has ``most`` utterances under way."""
    return RateLimited(
        f"At most {most} at a time: so many utterances of this caller are spoken or wait already.",
        retry_after_ms=RETRY_MS,
    )


@dataclass(eq=False, slots=True)
class KeyRing:
    """All keys of a server. Once there was one, nobody comes in without: see ``replace``."""

    keys: tuple[ApiKey, ...]
    token_secret: str = ""
    clock: Clock = field(default_factory=Clock)
    locked: bool = False
    token_running: dict[str, int] = field(default_factory=dict)
    _allowances: dict[bytes, Allowance] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings) -> KeyRing:
        """The keys that the settings name."""
        ring = cls(())
        ring.replace(settings)
        return ring

    def replace(self, settings: Settings) -> None:
        """Put the settings' keys in force: those that are gone open nothing from now on.

        A server that had keys and is left with none lets nobody in, rather than everybody.
        """
        self.keys = keys_of(settings)
        self.token_secret = settings.token_secret
        self.locked = self.locked or bool(self.keys)
        kept = {key.digest for key in self.keys}
        self._allowances = {
            digest: each for digest, each in self._allowances.items() if digest in kept
        }
        _warn_of_short(settings)

    def find(self, offered: Iterable[bytes]) -> ApiKey | None:
        """The key among what was offered, or None.

        Every pair of digests is compared, so that the time tells nothing about which one matched.
        """
        found = None
        digests = [hashlib.sha256(each).digest() for each in offered]
        for key in self.keys:
            for digest in digests:
                if hmac.compare_digest(digest, key.digest):
                    found = key
        return found

    def current(self, digest: bytes) -> ApiKey | None:
        """The key of that digest as it is now; None once it was removed."""
        return next((key for key in self.keys if key.digest == digest), None)

    def allowance(self, key: ApiKey) -> Allowance:
        """What that key is doing; it survives a change of the key's limits."""
        return self._allowances.setdefault(key.digest, Allowance())


def keys_of(settings: Settings) -> tuple[ApiKey, ...]:
    """Plain keys may do everything, and are named by their place."""
    plain = dict.fromkeys(settings.api_keys)
    named = [
        ApiKey(f"api_keys[{place}]", digest_of(key), admin=True) for place, key in enumerate(plain)
    ]
    return (*named, *(ApiKey.of_table(table) for table in settings.keys))


def _warn_of_short(settings: Settings) -> None:
    for place, key in enumerate(dict.fromkeys(settings.api_keys)):
        if len(key) < MIN_SECRET_CHARS:
            extra = {"key": f"api_keys[{place}]", "characters": len(key)}
            log.warning(f"a key of fewer than {MIN_SECRET_CHARS} characters", extra=extra)
