"""A key as the configuration file describes it: its digest (never the key) and its limits."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

MAX_KEYS = 1_000
MAX_VOICES = 1_000
MAX_VOICE_CHARS = 256
MIN_SECRET_CHARS = 16
"""Shorter secrets are refused, shorter keys warned of."""

PREFIX = "vv_"
RANDOM_BYTES = 32
"""256 bits: a digest of so much chance needs no salt and no slow hash."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)]
Limit = Annotated[int, Field(ge=1, le=100_000, strict=True)]


class KeyTable(BaseModel):
    """One ``[[keys]]`` table. Without ``voices`` the key may speak as anyone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    sha256: str = Field(pattern=r"^[0-9a-fA-F]{64}$")
    requests_per_minute: Limit | None = None
    concurrent: Limit | None = None
    voices: tuple[str, ...] | None = Field(None, min_length=1, max_length=MAX_VOICES)
    admin: bool = Field(False, strict=True)

    @field_validator("sha256")
    @classmethod
    def _of_something(cls, value: str) -> str:
        if value.lower() == digest_of("").hex():
            raise ValueError("is the digest of an empty key")
        return value.lower()

    @field_validator("voices")
    @classmethod
    def _named(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and not all(name.strip() for name in value):
            raise ValueError("holds an empty name")
        if value is not None and max(map(len, value)) > MAX_VOICE_CHARS:
            raise ValueError(f"holds a name of more than {MAX_VOICE_CHARS} characters")
        return value


def digest_of(key: str) -> bytes:
    """SHA-256 of the key's UTF-8 bytes."""
    return hashlib.sha256(key.encode()).digest()


def new_key() -> str:
    """A key that nobody can guess."""
    return PREFIX + secrets.token_urlsafe(RANDOM_BYTES)


def split_names(value: Any) -> Any:
    """Names parted by commas as a tuple, without empty ones."""
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


def split_keys(value: Any) -> Any:
    """Keys parted by commas as a tuple; only behind the last comma may be nothing."""
    if not isinstance(value, str):
        return value
    parts = [part.strip() for part in value.split(",")]
    return tuple(parts[:-1] if len(parts) > 1 and not parts[-1] else parts)


def check_plain(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Raise ValueError for a key that lets everybody in, or that no client can send."""
    for key in keys:
        if not key.strip():
            raise ValueError("holds an empty key; a server without keys leaves the setting out")
        if key != key.strip() or not key.isprintable():
            raise ValueError("holds a key with control characters, or white space at an end")
    return keys


def check_secret(value: str) -> str:
    """Raise ValueError for a secret that can be guessed; none at all is no secret."""
    if value and len(value.strip()) < MIN_SECRET_CHARS:
        raise ValueError(f"must have {MIN_SECRET_CHARS} characters at least")
    return value


def check_distinct(plain: Iterable[str], tables: Iterable[KeyTable]) -> None:
    """Raise ValueError where two tables share a name, or a key would have two sets of limits."""
    known = {digest_of(key).hex(): "api_keys" for key in plain}
    names: set[str] = set()
    for table in tables:
        if table.name in names:
            raise ValueError(f"two of them are named {table.name}")
        if other := known.get(table.sha256):
            raise ValueError(f"{table.name} is the same key as {other}")
        names.add(table.name)
        known[table.sha256] = table.name
