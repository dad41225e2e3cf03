"""Every error vivavoce raises, in one tree.

::

    VivavoceError
    ├── InputError                 400  the request cannot be spoken as it stands
    │   ├── EmptyInput             400  nothing speakable in it
    │   ├── InputTooLong           400  more than MAX_INPUT_CHARS
    │   ├── ContextOverflow        400  voice and text do not fit into the model's context
    │   ├── UnknownVoice           400  no voice of that name; lists the known ones
    │   ├── ConsentRequired        400  a recording without the speaker's consent
    │   ├── InvalidAudio           400  a reference recording that cannot be used
    │   ├── Unsupported            400  this engine cannot do what was asked
    │   ├── BodyTooLarge           413  more bytes than the limit
    │   ├── UrlTooLong             414  an address longer than the limit
    │   ├── HeadTooLarge           431  more header bytes or fields than the limit
    │   ├── SlowRequest            408  a request that does not arrive
    │   └── Pipelined              400  a request sent before the last one was answered
    ├── Unauthorized               401  missing or wrong API key
    │   └── TokenExpired           401  a client token whose time is over
    ├── Forbidden                  403  the caller is known and may not do this
    │   ├── ForeignOrigin          403  a page of another site, or not the token's
    │   └── VoiceNotAllowed        403  the key or token may not speak as that voice
    ├── NotFound                   404  no such path, model or saved voice
    │   └── UnknownModel           404  lists the known ones
    ├── Conflict                   409  a saved voice of that name exists
    │   └── TooManyVoices          409  as many are saved as the server keeps
    ├── UnknownHost                421  a host name that this server does not answer for
    ├── RateLimited                429  over a limit of the caller's own key or token
    ├── Busy                       429  all slots and all queue places are taken
    ├── Cancelled                  499  the consumer closed its stream
    │   └── SlowConsumer           499  the consumer did not read for too long
    ├── EngineError                500  synthesis of one utterance failed
    │   └── RunawayOutput          500  far more audio than the text can mean
    ├── WorkerDied                 500  a process that worked apart crashed or was ended
    ├── StorageError               500  saved data cannot be read or written
    │   └── StorageFull            507  there is no room left for it
    ├── Unavailable                503  starting, draining, or failed
    │   ├── Starting               503
    │   ├── Draining               503
    │   ├── EngineFailed           503  the engine as a whole broke
    │   ├── TooManyConnections     503  no connection can be given up for this one
    │   ├── TooManyBodies          503  no room for another request's body
    │   └── SpoolFull              503  no room for another whole file
    ├── DeadlineExceeded           504  longer than REQUEST_TIMEOUT
    └── SetupError                 500  something on this machine is missing or wrong
        ├── SettingsError          500  a setting that is unknown, wrong or unsafe
        │   └── UnknownOption      500  an engine has no option of that name
        ├── MissingExtra           500  names the extra to install
        ├── ModelFileError         500  a model file is missing, damaged or of another kind
        └── PlaybackError          500  no usable audio device

Each class carries ``code`` (stable, machine-readable), ``status`` (the HTTP status it becomes),
``retryable`` (whether the same request may succeed later) and ``exit_status`` (what a command that
it ends exits with; 70 is EX_SOFTWARE of sysexits.h). Turning errors into HTTP and
WebSocket answers happens in one place, ``serving/problems.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar


class VivavoceError(Exception):
    """Base of every error raised on purpose.

    ``param`` names the request field at fault, where there is one.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class InputError(VivavoceError):
    """The request is wrong; sending it again will not help."""

    code = "invalid_request"
    status = 400
    exit_status = 2


class EmptyInput(InputError):
    """The text holds nothing that can be spoken."""

    code = "empty_input"

    def __init__(self, message: str = "The input holds nothing that can be spoken.") -> None:
        super().__init__(message, param="input")


class InputTooLong(InputError):
    """The text is longer than the server takes, as it is written or (``spoken``) spoken."""

    code = "input_too_long"

    def __init__(self, length: int, limit: int, *, spoken: bool = False) -> None:
        have = f"has {length} characters"
        if spoken:
            have = f"grows to {length} characters or more where it is spoken"
        super().__init__(f"The input {have}; at most {limit} are accepted.", param="input")


class ContextOverflow(InputError):
    """The prompt leaves no room for a single code; a shorter text or reference is needed."""

    code = "context_overflow"

    def __init__(self, prompt_tokens: int, context_tokens: int) -> None:
        super().__init__(
            f"Voice and text take {prompt_tokens} tokens together; the context holds "
            f"{context_tokens} with the speech. Use a shorter text or reference recording.",
            param="input",
        )
        self.prompt_tokens = prompt_tokens
        self.context_tokens = context_tokens


class UnknownVoice(InputError):
    """No voice has that name."""

    code = "unknown_voice"

    def __init__(self, name: str, known: Iterable[str]) -> None:
        message = f"Unknown voice {shown(name)}. Known voices: {_listed(known)}."
        super().__init__(message, param="voice")


class ConsentRequired(InputError):
    """A recording came without the consent of whom it was made of."""

    code = "consent_required"


class InvalidAudio(InputError):
    """A recording that was sent cannot be used."""

    code = "invalid_audio"


class Unsupported(InputError):
    """The engine in use cannot do what was asked."""

    code = "unsupported"


class BodyTooLarge(InputError):
    """The request body is over the limit."""

    code = "body_too_large"
    status = 413


class UrlTooLong(InputError):
    """The address of the request is over the limit."""

    code = "url_too_long"
    status = 414


class HeadTooLarge(InputError):
    """The head of the request has more bytes or fields than the limit."""

    code = "head_too_large"
    status = 431


class SlowRequest(InputError):
    """The request did not arrive in time."""

    code = "request_timeout"
    status = 408


class Pipelined(InputError):
    """A request came before the one ahead of it on its connection was answered."""

    code = "pipelining_refused"


class Unauthorized(VivavoceError):
    """The API key is missing or wrong."""

    code = "invalid_api_key"
    status = 401


class TokenExpired(Unauthorized):
    """The client token was good once; its time is over."""

    code = "token_expired"


class Forbidden(VivavoceError):
    """Who calls is known, and may not do this."""

    code = "forbidden"
    status = 403


class ForeignOrigin(Forbidden):
    """A browser sent this for a page of another origin than those that may call."""

    code = "foreign_origin"


class VoiceNotAllowed(Forbidden):
    """The caller's key or token may speak as other voices only; they are listed."""

    code = "voice_not_allowed"

    def __init__(self, allowed: Iterable[str]) -> None:
        super().__init__(f"This caller may speak only as: {_listed(allowed)}.", param="voice")


class NotFound(VivavoceError):
    """What was named does not exist."""

    code = "not_found"
    status = 404
    exit_status = 2


class UnknownModel(NotFound):
    """No model has that name."""

    code = "model_not_found"

    def __init__(self, name: str, known: Iterable[str]) -> None:
        listed = ", ".join(sorted(known))
        super().__init__(f"Unknown model {shown(name)}. Known models: {listed}.", param="model")


class Conflict(VivavoceError):
    """What should be created exists already."""

    code = "conflict"
    status = 409
    exit_status = 2


class TooManyVoices(Conflict):
    """As many voices are saved as the server keeps; one has to be removed first."""

    code = "too_many_voices"

    def __init__(self, count: int, most: int) -> None:
        super().__init__(
            f"{count} voices are saved, and {most} may be (max_saved_voices); remove one first.",
            param="name",
        )


class UnknownHost(VivavoceError):
    """The request is meant for a host name that this server does not answer for."""

    code = "unknown_host"
    status = 421


class RateLimited(VivavoceError):
    """More than the caller's key or token allows; try again after ``retry_after_ms``."""

    code = "rate_limit_exceeded"
    status = 429
    retryable = True

    def __init__(self, message: str, *, retry_after_ms: int) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class Busy(VivavoceError):
    """All slots and all places in the queue are taken; try again after ``retry_after_ms``."""

    code = "busy"
    status = 429
    retryable = True

    def __init__(self, message: str, *, retry_after_ms: int) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class Cancelled(VivavoceError):
    """The consumer closed its stream before the end."""

    code = "cancelled"
    status = 499


class SlowConsumer(Cancelled):
    """The consumer did not read for too long; its stream was given up."""

    code = "slow_consumer"


class EngineError(VivavoceError):
    """One utterance could not be synthesised; other utterances are not affected."""

    code = "engine_error"
    status = 500
    retryable = True


class RunawayOutput(EngineError):
    """The engine made far more audio than the text can mean."""

    code = "runaway_output"


class WorkerDied(VivavoceError):
    """A process that worked apart crashed, or took more time or memory than it was given."""

    code = "worker_died"


class StorageError(VivavoceError):
    """Saved data cannot be read or written."""

    code = "storage_error"


class StorageFull(StorageError):
    """There is no room left for data."""

    code = "storage_full"
    status = 507


class Unavailable(VivavoceError):
    """The server cannot take requests now."""

    code = "unavailable"
    status = 503
    retryable = True

    def __init__(self, message: str, *, retry_after_ms: int = 5_000) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class Starting(Unavailable):
    """The engine is still loading."""

    code = "starting"


class Draining(Unavailable):
    """The server is shutting down; running streams finish."""

    code = "draining"


class EngineFailed(Unavailable):
    """The engine as a whole broke; the process should be restarted."""

    code = "engine_failed"
    exit_status = 70


class TooManyConnections(Unavailable):
    """The server has as many connections as it may, and all of them are in use."""

    code = "too_many_connections"


class TooManyBodies(Unavailable):
    """The bodies of other requests, together, leave no room for this one."""

    code = "too_many_bodies"


class SpoolFull(Unavailable):
    """There is no room for another whole file that waits to be sent."""

    code = "storage_full"


class DeadlineExceeded(VivavoceError):
    """The request took longer than REQUEST_TIMEOUT."""

    code = "deadline_exceeded"
    status = 504
    retryable = True


class SetupError(VivavoceError):
    """Something on this machine is missing or wrong."""

    code = "setup_error"
    exit_status = 3


class SettingsError(SetupError):
    """A setting is unknown, has a wrong value, or is unsafe."""

    code = "settings_error"


class UnknownOption(SettingsError):
    """An engine has no option of that name."""

    code = "unknown_option"


class MissingExtra(SetupError):
    """An optional part is not installed."""

    code = "missing_extra"

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra {extra!r}: pip install 'vivavoce[{extra}]'")
        self.extra = extra


class ModelFileError(SetupError):
    """A model file is missing, damaged, or not of the expected kind."""

    code = "model_file_error"


class PlaybackError(SetupError):
    """There is no usable audio device."""

    code = "playback_error"


def shown(text: str) -> str:
    """What a caller sent, in a message about it: in quotes, and no more than tells what it is."""
    return repr(_shortened(text))


_MOST_NAMED = 20
_LONGEST_NAME = 80


def _listed(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    known = list(names)
    more = len(known) - _MOST_NAMED
    return ", ".join(map(_shortened, known[:_MOST_NAMED])) + (
        f" and {more} more" if more > 0 else ""
    )


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…"
