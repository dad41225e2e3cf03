"""SIGHUP: the keys of the configuration file are read again, and nothing else."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading

from vivavoce.errors import SettingsError
from vivavoce.serving.keys import KeyRing
from vivavoce.settings import Settings

log = logging.getLogger(__name__)

REREAD = ("api_keys", "keys", "token_secret")


def reread_keys_on_hangup(ring: KeyRing, settings: Settings) -> None:
    """From now on; call from the event loop.

    Without a configuration file SIGHUP stays what it is: the end of the process. Only the main
    thread hears signals, so a server in another one is left as it is; Windows has no such signal.
    """
    if settings.config_file is None or threading.current_thread() is not threading.main_thread():
        return
    if not hasattr(signal, "SIGHUP"):
        return
    under_way: set[asyncio.Task[None]] = set()

    def begin() -> None:
        task = asyncio.create_task(_reread(ring, settings))
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, begin)


async def _reread(ring: KeyRing, started_with: Settings) -> None:
    """A file that cannot be used leaves the keys as they are."""
    try:
        settings = await asyncio.to_thread(started_with.reread)
    except SettingsError as error:
        log.error("the keys stay as they are", extra={"why": error.message})
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


def _changed(before: Settings, after: Settings) -> str:
    names = (name for name in Settings.model_fields if name not in REREAD)
    return ", ".join(name for name in names if getattr(before, name) != getattr(after, name))
