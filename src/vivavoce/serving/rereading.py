"""SIGHUP: the keys of the configuration file are read again, and nothing else."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading

from vivavoce.errors import SettingsError
from vivavoce.serving.client_tokens import derive_signing_keys
from vivavoce.serving.keys import KeyRing
from vivavoce.settings import Settings

log = logging.getLogger(__name__)

REREAD = ("api_keys", "keys", "token_secret")


def reread_keys_on_hangup(ring: KeyRing, settings: Settings) -> None:
    """From now on, and for a signal that was held back until now; call from the event loop.

    Without a configuration file SIGHUP stays what it is: the end of the process. Only the main
    thread hears signals, so a server in another one is left as it is; Windows has no such signal.
    """
    if settings.config_file is None or threading.current_thread() is not threading.main_thread():
        return
    if not hasattr(signal, "SIGHUP"):
        return
    rereading = Rereading(ring, settings)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, rereading.ask)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # see ``cli/hangups.py``


class Rereading:
    """Reads the keys again, one time after the other; use it from one event loop.

    Files are read in threads. Two at once could end in either order, and put a key in force again
    that the newer file has removed.
    """

    def __init__(self, ring: KeyRing, settings: Settings) -> None:
        self._ring = ring
        self._settings = settings
        self._asked = False
        self._reading: asyncio.Task[None] | None = None

    def ask(self) -> None:
        """Read them, once more where that is under way: the file may have changed since."""
        self._asked = True
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_while_asked())

    async def _read_while_asked(self) -> None:
        try:
            while self._asked:
                self._asked = False
                await _reread(self._ring, self._settings)
        finally:
            self._reading = None


async def _reread(ring: KeyRing, started_with: Settings) -> None:
    """A file that cannot be used leaves the keys as they are."""
    try:
        settings = await asyncio.to_thread(_read, started_with)
    except SettingsError as error:
        log.error("the keys stay as they are", extra={"why": error.message})
        return
    except Exception as error:  # boundary: whatever a file may set off
        log.exception("the keys stay as they are", extra={"why": type(error).__name__})
        return
    before = {key.digest for key in ring.keys}
    ring.replace(settings)
    after = {key.digest for key in ring.keys}
    extra = {"keys": len(after), "new": len(after - before), "removed": len(before - after)}
    log.info("keys read again", extra=extra)
    if not after and ring.locked:
        log.warning("no key is left: nobody can come in until there is one")
    if changed := _changed(started_with, settings):
        log.warning("these settings change at the next start", extra={"settings": changed})


def _read(started_with: Settings) -> Settings:
    """The file as it is now, with all that is slow about it done. Raises SettingsError."""
    settings = started_with.reread()
    derive_signing_keys(settings)
    return settings


def _changed(before: Settings, after: Settings) -> str:
    names = (name for name in Settings.model_fields if name not in REREAD)
    return ", ".join(name for name in names if getattr(before, name) != getattr(after, name))
