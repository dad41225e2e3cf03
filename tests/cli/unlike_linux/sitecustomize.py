"""Takes from every Python process with this folder on its path what Windows or macOS lacks.

Python imports a module of this name by itself when it starts.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any, NoReturn

for name in ("sched_getaffinity", "sysconf", "getloadavg"):
    if hasattr(os, name):
        delattr(os, name)
if hasattr(signal, "SIGHUP"):
    del signal.SIGHUP
sys.modules["resource"] = None  # type: ignore[assignment]


def _no_signal_handlers(*_: object) -> NoReturn:
    raise NotImplementedError


asyncio.SelectorEventLoop.add_signal_handler = _no_signal_handlers  # type: ignore[method-assign]


def _in_proc(path: Any) -> bool:
    return isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith("/proc/")


def _refuse_proc(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("open", "os.listdir", "os.scandir") and _in_proc(arguments[0]):
        raise FileNotFoundError(2, "No such file or directory", arguments[0])


_stat = os.stat


def _stat_outside_proc(path: Any, **how: Any) -> os.stat_result:
    if _in_proc(path):
        raise FileNotFoundError(2, "No such file or directory", path)
    return _stat(path, **how)


sys.addaudithook(_refuse_proc)
os.stat = _stat_outside_proc  # type: ignore[assignment]
