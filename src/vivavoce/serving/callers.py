"""Who calls, and within what: the limits of keys and tokens around every utterance.

The caller is a context variable, so that neither the speech service nor its observers need to know
that there are keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from vivavoce.errors import (
    Forbidden,
    Unauthorized,
    VivavoceError,
    VoiceNotAllowed,
)
from vivavoce.serving.client_tokens import ClientToken
from vivavoce.serving.keys import ApiKey, KeyRing, too_many_at_once
from vivavoce.speech.service import SpeechService
from vivavoce.types import SpeechRequest, Timings, Voice

ANONYMOUS = "(anonymous)"
"""The name under which is counted what is spoken where no key is needed; no key can have it."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A key that was shown, or a token that it signed with the help of ``secret``."""

    ring: KeyRing
    digest: bytes
    name: str
    token: ClientToken | None = None
    secret: str = ""

    def key(self) -> ApiKey:
        """The key as it is now. Raises Unauthorized once it was removed, or the token expired."""
        key = self.ring.current(self.digest)
        if key is None:
            raise Unauthorized("The API key has been removed.")
        if self.token is not None:
            if self.secret != self.ring.token_secret:
                raise Unauthorized("The secret that signed the client token has been changed.")
            self.token.check_time(self.ring)
        return key

    @property
    def voice_lists(self) -> tuple[tuple[str, ...], ...]:
        """Lists of voices, in each of which a voice must be. Raises Unauthorized."""
        own = () if self.token is None or self.token.voice is None else (self.token.voice,)
        return tuple(each for each in (own, self.key().voices) if each)

    @contextmanager
    def one(self) -> Iterator[None]:
        """One utterance of theirs. Raises Unauthorized, RateLimited before it counts."""
        key = self.key()
        with ExitStack() as counted:
            if self.token is not None:
                counted.enter_context(self._one_of_token(self.token))
            now_s = self.ring.clock.monotonic_s()
            counted.enter_context(self.ring.allowance(key).one(key, now_s))
            yield

    @contextmanager
    def _one_of_token(self, token: ClientToken) -> Iterator[None]:
        running = self.ring.token_running
        if token.concurrent is not None and running.get(token.id, 0) >= token.concurrent:
            raise too_many_at_once(token.concurrent)
        running[token.id] = running.get(token.id, 0) + 1
        try:
            yield
        finally:
            running[token.id] -= 1
            if not running[token.id]:
                del running[token.id]


caller: ContextVar[Caller | None] = ContextVar("caller", default=None)
"""Who sent the request that runs in this context; None where no key is needed."""


def caller_name() -> str:
    """The key's name, for counting."""
    who = caller.get()
    return ANONYMOUS if who is None else who.name


def has_key() -> bool:
    """Whether a key came with the request, not a token and not nothing."""
    who = caller.get()
    return who is not None and who.token is None


@contextmanager
def counted(service: SpeechService, transport: str) -> Iterator[None]:
    """One utterance of whoever calls, for as long as the context lasts.

    Raises Unauthorized and RateLimited before it; nothing is held then. A refusal is reported.
    """
    who = caller.get()
    with ExitStack() as stack:
        if who is not None:
            with refusals_reported(service, transport):
                stack.enter_context(who.one())
        yield


def may_speak_as(service: SpeechService, who: Caller, voice: str) -> bool:
    """Whether that voice is in every list that binds this caller."""
    return all(_is_in(service, voice, names) for names in who.voice_lists)


def visible(service: SpeechService, voices: list[Voice]) -> list[Voice]:
    """Those of ``voices`` that whoever calls may speak as."""
    who = caller.get()
    for names in () if who is None else who.voice_lists:
        meant = service.voices.ids_of(names)
        voices = [voice for voice in voices if voice.id in meant]
    return voices


def check_within_limits(service: SpeechService, transport: str) -> None:
    """Raise what ``counted`` would raise now, before an upload is read."""
    who = caller.get()
    if who is not None:
        with refusals_reported(service, transport):
            key = who.key()
            who.ring.allowance(key).check(key, who.ring.clock.monotonic_s())


def voiced(service: SpeechService, request: SpeechRequest) -> SpeechRequest:
    """The request, with the first of whoever calls' voices where it names none.

    Raises Unauthorized, Forbidden and VoiceNotAllowed.
    """
    who = caller.get()
    if who is None:
        return request
    key, lists = who.key(), who.voice_lists
    if request.reference is not None:
        if lists and not (key.admin and who.token is None):
            raise Forbidden("This caller may speak as named voices only, not clone others.")
        return request
    if not lists:
        return request
    service.lifecycle.check_open()
    wanted = request.voice or lists[0][0]
    if not may_speak_as(service, who, wanted):
        raise VoiceNotAllowed(lists[0])
    return replace(request, voice=wanted)


def _is_in(service: SpeechService, wanted: str, names: tuple[str, ...]) -> bool:
    """Whether a list means that voice: by its name, or by another server's name for it."""
    if wanted in names:
        return True
    ids_of = service.voices.ids_of
    return not ids_of((wanted,)).isdisjoint(ids_of(names))


@contextmanager
def refusals_reported(service: SpeechService, transport: str) -> Iterator[None]:
    """Count as rejected what is refused here: it never reaches the speech service."""
    try:
        yield
    except VivavoceError:
        service.observer.finished("rejected", Timings(), transport)
        raise
