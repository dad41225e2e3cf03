"""What goes wrong in the fake engine: in which method, how, at which call, set off by which word.

A fault is written ``METHOD:KIND``, then ``@WHEN`` and ``~WORD`` where they are needed; several
stand between commas: ``admit:raise``, ``step:hang@3``, ``clone:memory@once, step:crash~badword``.

WHEN is ``once`` (the first call), a number (that call alone) or a number and ``+`` (from that call
on); without it every call is struck. Calls are counted per fault. With a WORD only calls for a
text that has it count; methods that get no text are never struck then. ``step`` sees the texts of
all live slots.

=============  ==============================================================================
KIND           what happens
=============  ==============================================================================
raise          RuntimeError that quotes the text
memory         MemoryError
gpu_memory     an OutOfMemoryError as PyTorch has it: over once memory is free
device         an AcceleratorError as PyTorch has it: every later call can be expected to fail
exit           SystemExit
hang           the call waits until ``Faults.let_go``
crash          the process ends with SIGSEGV
wrong          a result that the contract does not know: ``admit`` gives a taken slot or no
               number, ``step`` a piece for a slot that nobody has, the others None
nan            of ``step``: sound that is not a number; of ``clone`` and ``voice_from_bytes``: a
               voice that makes such sound
shape, dtype   of ``step``: samples of two dimensions, or of another type
endless        of ``step``: sound without an end
=============  ==============================================================================
"""

from __future__ import annotations

import os
import re
import signal
import threading
from dataclasses import dataclass, field

from vivavoce.errors import SettingsError

METHODS = (
    "load", "unload", "voices", "validate", "clone", "voice_to_bytes", "voice_from_bytes",
    "admit", "extend", "finish", "release", "step", "check_files", "gpu",
)  # fmt: skip
ENACTED = ("raise", "memory", "gpu_memory", "device", "exit", "hang", "crash")
"""Kinds that ``Faults.strike`` carries out itself."""

SPOILING = {
    "nan": ("step", "clone", "voice_from_bytes"),
    "wrong": ("voices", "clone", "voice_to_bytes", "admit", "step"),
    **dict.fromkeys(("shape", "dtype", "endless"), ("step",)),
}
"""Kinds that the engine carries out, and the methods that have them."""

FORM = re.compile(r"(?P<method>\w+):(?P<kind>\w+)(?:@(?P<when>once|\d+\+?))?(?:~(?P<word>\S+))?")


class OutOfMemoryError(RuntimeError):
    """Named like that of PyTorch."""


class AcceleratorError(RuntimeError):
    """Named like that of PyTorch."""


@dataclass(slots=True)
class Fault:
    """One fault and how many calls it has seen; ``first`` and ``last`` are counted from 1."""

    method: str
    kind: str
    first: int = 1
    last: int | None = None
    word: str = ""
    seen: int = 0

    def struck_by(self, text: str) -> bool:
        """Count a call, and say whether this one goes wrong."""
        if self.word and self.word not in text:
            return False
        self.seen += 1
        return self.first <= self.seen and (self.last is None or self.seen <= self.last)


@dataclass(slots=True)
class Faults:
    """Faults of one engine; safe to use from several threads."""

    faults: tuple[Fault, ...] = ()
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _gate: threading.Event = field(default_factory=threading.Event)

    def strike(self, method: str, text: str = "") -> Fault | None:
        """A call begins: carry out what goes wrong, or return what the engine is to carry out."""
        fault = self._drawn(method, text)
        match fault.kind if fault else "":
            case "raise":
                raise RuntimeError(f"the fake engine's {method} was told to fail: {text}")
            case "memory":
                raise MemoryError(f"no memory for: {text}")
            case "gpu_memory":
                raise OutOfMemoryError(f"CUDA out of memory. Tried to allocate room for: {text}")
            case "device":
                raise AcceleratorError("CUDA error: an illegal memory access was encountered")
            case "exit":
                raise SystemExit(f"told to leave by: {text}")
            case "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "hang":
                self._gate.wait()
        return fault if fault and fault.kind in SPOILING else None

    def let_go(self) -> None:
        """Let everything go on that hangs, and nothing hang any more."""
        self._gate.set()

    def _drawn(self, method: str, text: str) -> Fault | None:
        with self._lock:
            struck = [each for each in self.faults if each.method == method]
            return next((each for each in struck if each.struck_by(text)), None)


def parse_faults(written: str) -> Faults:
    """Faults as an option has them. Raises SettingsError."""
    return Faults(tuple(_parsed(part.strip()) for part in written.split(",") if part.strip()))


def _parsed(written: str) -> Fault:
    found = FORM.fullmatch(written)
    if found is None or found["method"] not in METHODS:
        raise SettingsError(
            f"fake.fault: {written!r} is not METHOD:KIND[@WHEN][~WORD].", param="fault"
        )
    method, kind, when = found["method"], found["kind"], found["when"]
    if kind not in ENACTED and method not in SPOILING.get(kind, ()):
        raise SettingsError(f"fake.fault: {method} has no fault {kind!r}.", param="fault")
    word = found["word"] or ""
    if when is None:
        return Fault(method, kind, word=word)
    if when.endswith("+"):
        return Fault(method, kind, int(when[:-1]), word=word)
    call = 1 if when == "once" else int(when)
    return Fault(method, kind, call, call, word)
