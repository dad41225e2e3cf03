"""SIGHUP while a server starts: it waits until there is somebody to read keys again.

Imports next to nothing: until it was called, SIGHUP ends the process.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence


def hold_hangups_back() -> None:
    """Block SIGHUP: it stays pending, and neither ends a server that starts nor is lost.

    ``serving/rereading.py`` and ``serving/supervisor.py`` let it through.
    """
    if hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def serves_with_a_file(words: Sequence[str]) -> bool:
    """Whether a command line, without the program, is for a server that has keys in a file."""
    named = any(word.partition("=")[0] == "--config" for word in words)
    return words[:1] == ["serve"] and (named or has_file_around())


def has_file_around() -> bool:
    """Whether the environment names a configuration file."""
    return bool(os.environ.get("VIVAVOCE_CONFIG"))


def main() -> None:
    """The program ``vivavoce``. Its libraries take a while to import, most of a second if need be;
    a server that is told to read its keys again meanwhile is to live.
    """
    if serves_with_a_file(sys.argv[1:]):
        hold_hangups_back()
    from vivavoce.cli.main import main as run

    run()
