"""Voices by name: the engine's own, saved clones on disk, and other servers' names for them.

A saved voice is two files in the library's folder: ``NAME.json`` (what it is) and ``NAME.voice``
(the engine's state). Both are written beside and renamed, so a crash leaves no half voice.
"""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vivavoce.engines.base import Engine
from vivavoce.errors import Conflict, InputError, ModelFileError, NotFound, UnknownVoice
from vivavoce.types import Voice

log = logging.getLogger(__name__)

OPENAI_VOICES = (
    "alloy", "ash", "ballad", "cedar", "coral", "echo", "fable",
    "marin", "nova", "onyx", "sage", "shimmer", "verse",
)  # fmt: skip
"""The names OpenAI's clients know; every one of them speaks."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class VoiceLibrary:
    """Finds voices. ``folder`` None keeps saved voices in memory only.

    At most ``cache_max`` cloned voices are held in memory; others are read again when named.
    """

    def __init__(self, engine: Engine, folder: Path | None, cache_max: int = 32) -> None:
        self._engine = engine
        self._folder = None if folder is None else folder / engine.info.name
        self._cache_max = max(cache_max, 1)
        self._cache: OrderedDict[str, Voice] = OrderedDict()
        self._unsaved: dict[str, Voice] = {}
        self.hits = 0

    @property
    def cached(self) -> int:
        """Cloned voices in memory."""
        return len(self._cache)

    def builtin(self) -> Sequence[Voice]:
        """The engine's voices, default first."""
        return self._engine.voices()

    def saved(self) -> list[Voice]:
        """Saved clones, by name, without their state."""
        found = dict(self._unsaved)
        if self._folder is not None and self._folder.is_dir():
            for path in sorted(self._folder.glob("*.json")):
                try:
                    found[path.stem] = self._describe(path)
                except ModelFileError as error:
                    log.warning("a saved voice is left out", extra={"why": error.message})
        return [found[name] for name in sorted(found)]

    def aliases(self) -> dict[str, str]:
        """Other servers' voice names and the voice each stands for."""
        default = self._default_id()
        named = self._engine.info.voice_aliases
        return {name: named.get(name, default) for name in OPENAI_VOICES} | dict(named)

    def resolve(self, name: str | None) -> Voice:
        """The voice of that name (None: the default), ready to speak. Raises UnknownVoice."""
        if name is None or name == "":
            name = self._default_id()
        voice = self._find(name) or self._find(self.aliases().get(name, ""))
        if voice is None:
            raise UnknownVoice(name, self.names())
        return voice

    def names(self) -> list[str]:
        """Every name that resolves."""
        own = [voice.id for voice in (*self.builtin(), *self.saved())]
        return [*own, *(name for name in self.aliases() if name not in own)]

    def save(self, name: str, voice: Voice, description: str = "") -> Voice:
        """Keep a cloned voice under a name. Raises InputError, Conflict."""
        self.check_new(name)
        kept = replace(
            voice, id=name, name=name, created_at_s=int(time.time()), description=description
        )
        if self._folder is None:
            self._unsaved[name] = kept
        else:
            self._write(kept)
        self._remember(name, kept)
        return kept

    def check_new(self, name: str) -> None:
        """Raise InputError for a name that cannot be, Conflict for one that is taken."""
        if not NAME.fullmatch(name):
            raise InputError(
                "A voice name has 1 to 64 letters, digits, '_', '-' or '.', and starts with a"
                " letter or digit.",
                param="name",
            )
        if name in self.names():
            raise Conflict(f"A voice named {name!r} exists already.", param="name")

    def delete(self, name: str) -> None:
        """Forget a saved voice. Raises NotFound, and InputError for a built-in one."""
        if any(voice.id == name for voice in self.builtin()):
            raise InputError(f"The voice {name!r} is built in.", param="voice")
        if name not in {voice.id for voice in self.saved()}:
            raise NotFound(f"No saved voice is named {name!r}.", param="voice")
        self._cache.pop(name, None)
        if self._unsaved.pop(name, None) is None and self._folder is not None:
            (self._folder / f"{name}.json").unlink(missing_ok=True)
            (self._folder / f"{name}.voice").unlink(missing_ok=True)

    def remembered(self, key: str) -> Voice | None:
        """A voice from memory."""
        voice = self._cache.get(key)
        if voice is not None:
            self._cache.move_to_end(key)
            self.hits += 1
        return voice

    def remember(self, key: str, voice: Voice) -> None:
        """Keep a cloned voice in memory under a key of the caller's (a hash of the recording)."""
        self._remember(key, voice)

    def clear_cache(self) -> int:
        """Forget cloned voices in memory; saved ones are read again. Returns how many."""
        count = len(self._cache)
        self._cache.clear()
        return count

    def _default_id(self) -> str:
        return self._engine.info.default_voice or self.builtin()[0].id

    def _find(self, name: str) -> Voice | None:
        for voice in self.builtin():
            if voice.id == name:
                return voice
        if name in self._unsaved:
            return self._unsaved[name]
        if self._folder is None or not NAME.fullmatch(name):
            return None
        return self.remembered(name) or self._read(name)

    def _read(self, name: str) -> Voice | None:
        assert self._folder is not None
        state = self._folder / f"{name}.voice"
        if not state.is_file():
            return None
        voice = replace(
            self._describe(self._folder / f"{name}.json"),
            data=self._engine.voice_from_bytes(state.read_bytes()),
        )
        self._remember(name, voice)
        return voice

    def _describe(self, path: Path) -> Voice:
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            return Voice(
                id=path.stem,
                engine=self._engine.info.name,
                name=path.stem,
                languages=tuple(about["languages"]),
                kind="cloned",
                description=about["description"],
                created_at_s=about["created_at_s"],
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelFileError(f"The saved voice {path.stem!r} is damaged: {error}") from error

    def _write(self, voice: Voice) -> None:
        assert self._folder is not None
        self._folder.mkdir(parents=True, exist_ok=True)
        about = {
            "languages": voice.languages,
            "description": voice.description,
            "created_at_s": voice.created_at_s,
        }
        _write_whole(self._folder / f"{voice.id}.voice", self._engine.voice_to_bytes(voice))
        _write_whole(self._folder / f"{voice.id}.json", json.dumps(about).encode())

    def _remember(self, key: str, voice: Voice) -> None:
        self._cache[key] = voice
        self._cache.move_to_end(key)
        while len(self._cache) > self._cache_max:
            self._cache.popitem(last=False)


def _write_whole(path: Path, data: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(path)
