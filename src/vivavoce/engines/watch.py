"""What a thread of the engine is doing, for how long it may, and calls that it is asked for.

Whoever is about to call into an engine notes an ``Activity``; whoever asks whether the engine is
alive (probes, the watch of ``speech/lifecycle.py``) reads it from another thread. Times are of the
monotonic clock, so that a wall clock that is set changes nothing. A ``Call`` runs on the engine's
thread between two steps, such as loading and unloading.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """The longest each kind of work may take, in seconds.

    ``step_s`` holds for every call between load and unload (a step, taking a request in, freeing
    a slot, more text), each on its own.
    """

    step_s: float = 30.0
    load_s: float = 600.0
    unload_s: float = 60.0
    clone_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Activity:
    """Work in progress: ``doing`` completes the sentence "The engine has been … for 3 s."."""

    doing: str
    limit_s: float
    began_s: float

    @property
    def lasted_s(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began_s

    @property
    def share(self) -> float:
        """How much of its limit it has used up; above 1 it is late."""
        return self.lasted_s / self.limit_s

    def __str__(self) -> str:
        """A sentence for probes and callers."""
        lasted_s = self.lasted_s
        return f"The engine has been {self.doing} for {lasted_s:.{0 if lasted_s >= 10 else 1}f} s."


def starting_now(doing: str, limit_s: float) -> Activity:
    """Work that begins at this moment."""
    return Activity(doing, limit_s, time.monotonic())


@dataclass(frozen=True, slots=True)
class Call:
    """A function, what it does (for whoever watches the thread), and how long that may take.

    ``done`` ends with what the function raised, or without a value.
    """

    function: Callable[[], None]
    doing: str
    limit_s: float
    done: Future[None] = field(default_factory=Future)

    def run(self) -> None:
        """Run the function, unless its caller has gone or was told an error; never raises."""
        if self.done.done() or not self.done.set_running_or_notify_cancel():
            return
        try:
            self.function()
        except SystemExit as error:
            # As it is, it would end the event loop of whoever waits, and the process with it.
            self.fail(RuntimeError(f"SystemExit was raised: {error}"))
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            self.fail(error)
        else:
            with contextlib.suppress(InvalidStateError):  # it was given up meanwhile
                self.done.set_result(None)

    def fail(self, error: BaseException) -> None:
        """Hand an error to whoever waits, unless that is over. From any thread."""
        with contextlib.suppress(InvalidStateError):
            self.done.set_exception(error)
