"""Something to run on the engine's thread between two steps, such as loading and unloading."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field


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
