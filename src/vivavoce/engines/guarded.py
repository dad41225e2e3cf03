"""An engine behind a wall: whatever it raises fails the request it was called for, and no other.

``GuardedEngine`` passes every call on. What the engine raises for callers (InputError, Busy, …)
goes through as it is. Anything else, an exception of a library above all, becomes an EngineError
with a fixed sentence: its own text may hold what another caller said. The log gets its class and
place at ERROR, and all of it at DEBUG.

``step``, ``load`` and ``unload`` are passed on bare: what they raise concerns the engine as a
whole, and whoever calls them decides what follows (``engines/loop.py``, ``speech/lifecycle.py``).
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from vivavoce.engines.base import Engine, EngineInfo, Produced
from vivavoce.errors import EngineError, MissingExtra, SetupError, VivavoceError
from vivavoce.runtime.device_errors import is_lost
from vivavoce.types import Gpu, ReferenceAudio, Utterance, Voice

log = logging.getLogger(__name__)

Returned = TypeVar("Returned")

FAULT = "The engine failed on this request; the server's log says more."


class GuardedEngine(Engine):
    """See the module's docstring.

    ``on_device_lost`` is called, from any thread, when the device fails for another reason than
    memory: only a new process helps (``runtime/device_errors.py``).
    """

    def __init__(self, engine: Engine, on_device_lost: Callable[[], None]) -> None:
        self._engine = engine
        self._on_device_lost = on_device_lost
        self._voices: tuple[Voice, ...] | None = None

    @property
    def info(self) -> EngineInfo:
        """Who the engine is."""
        return self._engine.info

    @property
    def capacity(self) -> int:
        """How many utterances can be in slots at once. Raises EngineError."""
        with self.contained("capacity"):
            return self._engine.capacity

    def gpu(self) -> Gpu | None:
        """The card it runs on; None also where it cannot be asked: a probe must be answered."""
        try:
            with self.contained("gpu"):
                return self._engine.gpu()
        except VivavoceError:
            return None

    def check_files(self) -> None:
        """Find the model's files and read the voices. Raises SetupError."""
        self._engine.check_files()
        self._read_voices()

    def load(self) -> None:
        """Load the engine and read its voices. Raises whatever the engine raises."""
        self._engine.load()
        self._read_voices()

    def unload(self) -> None:
        """Unload the engine. Raises whatever the engine raises."""
        self._engine.unload()

    def voices(self) -> Sequence[Voice]:
        """The voices as they were when the engine was loaded. Raises EngineError.

        They are read in the engine's thread then, and remembered: a slow or broken list is found
        at the start, and never holds up an event loop.
        """
        if self._voices is None:
            self._read_voices()
        return self._voices or ()

    def validate(self, utterance: Utterance) -> None:
        """Raise InputError for what the engine cannot speak, EngineError where it fails."""
        with self.contained("validate"):
            self._engine.validate(utterance)

    def clone(self, reference: ReferenceAudio) -> Voice:
        """Make a voice from a recording. Raises Unsupported, InvalidAudio, EngineError."""
        with self.contained("clone"):
            return _checked("clone", self._engine.clone(reference), Voice)

    def voice_to_bytes(self, voice: Voice) -> bytes:
        """A cloned voice's state. Raises Unsupported, EngineError."""
        with self.contained("voice_to_bytes"):
            return _checked("voice_to_bytes", self._engine.voice_to_bytes(voice), bytes)

    def voice_from_bytes(self, data: bytes) -> Any:
        """The inverse. Raises ModelFileError for damaged data, EngineError."""
        with self.contained("voice_from_bytes", passing=VivavoceError):
            return self._engine.voice_from_bytes(data)

    def longest_audio_s(self, utterance: Utterance) -> float | None:
        """How much sound an utterance can mean at most. Raises EngineError."""
        with self.contained("longest_audio_s"):
            return self._engine.longest_audio_s(utterance)

    def admit(self, utterance: Utterance) -> int:
        """Take a slot. Raises InputError, EngineError."""
        with self.contained("admit"):
            return _checked("admit", self._engine.admit(utterance), int)

    def extend(self, slot: int, text: str) -> None:
        """Append text. Raises Unsupported, EngineError."""
        with self.contained("extend"):
            self._engine.extend(slot, text)

    def finish(self, slot: int) -> None:
        """No more text. Raises Unsupported, EngineError."""
        with self.contained("finish"):
            self._engine.finish(slot)

    def release(self, slot: int) -> None:
        """Free a slot. Raises EngineError."""
        with self.contained("release"):
            self._engine.release(slot)

    def step(self) -> Sequence[Produced]:
        """Advance live slots once. Raises whatever the engine raises."""
        return self._engine.step()

    @contextmanager
    def contained(
        self, method: str, passing: type[VivavoceError] | tuple[type[VivavoceError], ...] = ()
    ) -> Iterator[None]:
        """Turn what ``method`` raises into what its caller may hear; ``passing`` goes through."""
        try:
            yield
        except (Exception, SystemExit) as error:
            if passing and isinstance(error, passing):
                raise
            heard = self.for_caller(method, error)
            if heard is error:
                raise
            raise heard from error

    def for_caller(self, method: str, error: BaseException) -> VivavoceError:
        """What a caller may hear of an error; what it may not goes to the log.

        A SetupError is for the operator: it names files and settings of this machine. What has to
        be installed, everybody may know.
        """
        cause = error.__cause__ if isinstance(error, VivavoceError) else error
        if isinstance(cause, BaseException) and not isinstance(cause, VivavoceError):
            report_fault(method, cause)
            if is_lost(cause):
                self._on_device_lost()
        if isinstance(error, SetupError) and not isinstance(error, MissingExtra):
            log.error("the engine's %s: %s", method, error.message)
            return EngineError(FAULT)
        return error if isinstance(error, VivavoceError) else EngineError(FAULT)

    def _read_voices(self) -> None:
        with self.contained("voices", passing=SetupError):
            self._voices = tuple(_checked("voices", v, Voice) for v in self._engine.voices())


def _checked(method: str, value: object, kind: type[Returned]) -> Returned:
    """What a method returned. Raises TypeError for something else than the contract says."""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{method} returned a {type(value).__name__}, not a {kind.__name__}")
    return value


def is_sound(samples: object) -> bool:
    """Whether samples are what the contract asks for: one dimension of float32."""
    return isinstance(samples, np.ndarray) and samples.ndim == 1 and samples.dtype == np.float32


def report_fault(method: str, error: BaseException) -> None:
    """Log an exception of an engine without its text, which may hold callers' words.

    Class and place at ERROR; the whole of it at DEBUG.
    """
    log.error("the engine's %s raised %s at %s", method, type(error).__name__, _place_of(error))
    log.debug("in full:", exc_info=error)


def _place_of(error: BaseException) -> str:
    """File and line where an exception came from."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "nowhere"
