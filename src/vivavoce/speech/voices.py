"""Voices by name: the engine's own, saved clones, and other servers' names for them.

Saved voices are entries of a store: what they are, and the engine's state. With a folder they last,
and other processes may save and remove voices there, too: a voice in memory is used as long as its
entry is the one that it was read from.
"""

from __future__ import annotations

import logging
import time
import unicodedata
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vivavoce.engines.base import Engine
from vivavoce.engines.voices import OPENAI_VOICES
from vivavoce.errors import (
    Conflict,
    InputError,
    ModelFileError,
    NotFound,
    TooManyVoices,
    UnknownVoice,
    shown,
)
from vivavoce.speech.folder_store import FolderStore
from vivavoce.speech.store import (
    MAX_NAME_CHARS,
    Blob,
    Description,
    MemoryStore,
    Store,
    checked_name,
    folded,
    normal_name,
)
from vivavoce.types import Voice

log = logging.getLogger(__name__)

SUFFIX = ".voice"
MAX_DESCRIPTION_CHARS = 500
MAX_CONSENT_CHARS = 500
MAX_SAVED_VOICES = 1_000


_LAID_OUT = "\n\t"
_DIRECTIONS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


class VoiceLibrary:
    """Finds voices. ``folder`` None keeps saved voices in memory only.

    At most ``cache_max`` cloned voices are held in memory; others are read again when named.
    ``write`` may be called from any thread, the rest from one.
    """

    def __init__(
        self,
        engine: Engine,
        folder: Path | None,
        cache_max: int = 32,
        max_saved: int = MAX_SAVED_VOICES,
    ) -> None:
        self._engine = engine
        self._store: Store = MemoryStore()
        if folder is not None:
            self._store = FolderStore(folder / engine.info.name, SUFFIX, check_description)
        self._max_saved = max_saved
        self._cache_max = max(cache_max, 1)
        self._cache: OrderedDict[tuple[str, str], Voice] = OrderedDict()
        self._seen: tuple[object, tuple[Voice, ...]] = (None, ())
        self._descriptions: Mapping[str, tuple[Description, Voice]] = {}
        self._damaged: dict[str, tuple[str, ModelFileError]] = {}
        self.hits = 0

    @property
    def cached(self) -> int:
        """Cloned voices in memory."""
        return len(self._cache)

    def builtin(self) -> Sequence[Voice]:
        """The engine's voices, default first."""
        return self._engine.voices()

    def saved(self) -> Sequence[Voice]:
        """Saved clones, by name, without their state; the same object until one changes."""
        listed = self._store.list()
        before, voices = self._seen
        if listed is not before:
            damaged = {
                name
                for name, (version, _) in self._damaged.items()
                if self._store.version(name) == version
            }
            described = self._describe_all(listed)
            voices = tuple(voice for name, voice in described.items() if name not in damaged)
            self._seen = listed, voices
        return voices

    def aliases(self) -> dict[str, str]:
        """Other servers' voice names and the voice each stands for."""
        default = self._default_id()
        named = self._engine.info.voice_aliases
        return {name: named.get(name, default) for name in OPENAI_VOICES} | dict(named)

    def resolve(self, name: str | None) -> Voice:
        """The voice of that name (None: the default), ready to speak.

        Raises UnknownVoice, ModelFileError for one that is damaged, StorageError.
        """
        if name is None or name == "":
            name = self._default_id()
        voice = self._find(name) or self._find(self.aliases().get(name, ""))
        if voice is None:
            raise UnknownVoice(name, self.names())
        return voice

    def ids_of(self, names: Iterable[str]) -> set[str]:
        """What names mean, by the lists alone: no voice is read for it, so none is found damaged.

        A name that nobody has means nothing.
        """
        builtin, saved = {voice.id for voice in self.builtin()}, self._store.list()
        aliases = self.aliases()
        found = set()
        for name in names:
            for each in (name, normal_name(name), aliases.get(name)):
                if each is not None and (each in builtin or each in saved):
                    found.add(each)
                    break
        return found

    def names(self) -> list[str]:
        """Every name that resolves."""
        own = dict.fromkeys(voice.id for voice in (*self.builtin(), *self.saved()))
        return list(own | dict.fromkeys(self.aliases()))

    def save(self, name: str, voice: Voice, description: str = "", consent: str = "") -> Voice:
        """Keep a cloned voice under a name. Blocks while it is written.

        Raises InputError, Conflict, TooManyVoices, StorageError, StorageFull.
        """
        name = self.check_new(name, description, consent)
        kept = self.write(name, replace(voice, description=description, consent=consent))
        self.remember_saved(kept)
        return kept

    def write(self, name: str, voice: Voice, *, replacing: bool = False) -> Voice:
        """``save``, with what ``check_new`` has let pass, without remembering the voice.

        Raises Conflict, TooManyVoices, StorageError, StorageFull: others may have saved meanwhile.
        """
        kept = replace(voice, id=name, name=name, created_at_s=int(time.time()))
        about, state = description_of(kept), self._engine.voice_to_bytes(kept)
        self._put(name, about, state, replacing=replacing)
        return replace(kept, version=self._store.version(name) or "")

    def entry(self, name: str) -> Blob:
        """What is kept of a saved voice. Raises NotFound, StorageError."""
        blob = self._store.get(normal_name(name))
        if blob is None:
            raise NotFound(f"No saved voice is named {name!r}.", param="voice")
        return blob

    def adopt(self, name: str, blob: Blob, *, replacing: bool = False) -> None:
        """Keep under a name what another library of this engine has kept. Blocks.

        Raises what ``check_new`` raises, ModelFileError for what is no voice of this engine,
        StorageError, StorageFull.
        """
        about = blob.about
        name = self.check_new(
            name, about["description"], about.get("consent", ""), replacing=replacing
        )
        self._engine.voice_from_bytes(blob.data)
        self._put(name, about, blob.data, replacing=replacing)

    def _put(self, name: str, about: Description, state: bytes, *, replacing: bool) -> None:
        if replacing and name in self._store.list():
            self._store.put(name, about, state)
        elif not self._store.put_if_absent(name, about, state, self._max_saved):
            raise self._taken(name)

    def check_new(
        self, name: str, description: str = "", consent: str = "", *, replacing: bool = False
    ) -> str:
        """The name as it will be kept; ``replacing``: also that of a voice that is saved.

        Raises InputError for what cannot be, Conflict for a name that is taken, TooManyVoices.
        """
        name = checked_name(name)
        _check_text(description, MAX_DESCRIPTION_CHARS, "description")
        _check_text(consent, MAX_CONSENT_CHARS, "consent")
        if replacing and name in self._store.list():
            return name
        if folded(name) in map(folded, self.names()):
            raise self._taken(name)
        count = len(self._store.list())
        if count >= self._max_saved:
            raise TooManyVoices(count, self._max_saved)
        return name

    def delete(self, name: str) -> None:
        """Forget a saved voice, or remove what is left of one. Blocks while it is removed.

        Raises NotFound, StorageError, and InputError for a built-in voice.
        """
        name = normal_name(name)
        if any(voice.id == name for voice in self.builtin()):
            raise InputError(f"The voice {shown(name)} is built in.", param="voice")
        self._cache.pop(_saved_key(name), None)
        if not self._store.delete(name):
            raise NotFound(f"No saved voice is named {shown(name)}.", param="voice")

    def remembered(self, key: str) -> Voice | None:
        """A voice from memory, by a key of the caller's (a digest of the recording)."""
        return self._from_cache(("recording", key))

    def remember(self, key: str, voice: Voice) -> None:
        """Keep a cloned voice in memory under such a key."""
        self._remember(("recording", key), voice)

    def remember_saved(self, voice: Voice) -> None:
        """Keep a voice that ``write`` returned in memory."""
        self._remember(_saved_key(voice.id), voice)

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
        if not 1 <= len(name) <= MAX_NAME_CHARS * 4:
            return None
        name = normal_name(name)
        version = self._store.version(name)
        if version is None:
            return None
        kept = self._cache.get(_saved_key(name))
        if kept is not None and kept.version == version:
            return self._from_cache(_saved_key(name))
        return self._read(name, version)

    def _read(self, name: str, version: str) -> Voice | None:
        known = self._damaged.get(name)
        if known is not None and known[0] == version:
            raise known[1]
        blob = self._store.get(name)
        if blob is None:
            return None
        try:
            state = self._engine.voice_from_bytes(blob.data)
        except ModelFileError as error:
            log.warning("a saved voice is left out", extra={"voice": name, "why": error.message})
            self._damaged[name] = blob.version, error
            self._seen = None, ()
            raise
        if self._damaged.pop(name, None) is not None:
            self._seen = None, ()
        described = _voice(self._engine.info.name, name, blob.about)
        voice = replace(described, version=blob.version, data=state)
        self.remember_saved(voice)
        return voice

    def _describe_all(self, listed: Mapping[str, Description]) -> Mapping[str, Voice]:
        """Every entry as a voice; made anew only where its description is another object."""
        engine, known = self._engine.info.name, self._descriptions
        self._descriptions = {
            name: known[name]
            if name in known and known[name][0] is about
            else (about, _voice(engine, name, about))
            for name, about in listed.items()
        }
        return {name: voice for name, (_, voice) in self._descriptions.items()}

    def _taken(self, name: str) -> Conflict:
        if folded(name) in map(folded, self.names()):
            return Conflict(f"A voice named {shown(name)} exists already.", param="name")
        return Conflict(
            f"What is left of a damaged voice holds the name {shown(name)}; delete it first.",
            param="name",
        )

    def _from_cache(self, key: tuple[str, str]) -> Voice | None:
        voice = self._cache.get(key)
        if voice is not None:
            self._cache.move_to_end(key)
            self.hits += 1
        return voice

    def _remember(self, key: tuple[str, str], voice: Voice) -> None:
        self._cache[key] = voice
        self._cache.move_to_end(key)
        while len(self._cache) > self._cache_max:
            self._cache.popitem(last=False)


def description_of(voice: Voice) -> Description:
    """What a store keeps of a voice besides its state."""
    about = {
        "languages": list(voice.languages),
        "description": voice.description,
        "created_at_s": voice.created_at_s,
    }
    return about | ({"consent": voice.consent} if voice.consent else {})


def _voice(engine: str, name: str, about: Description) -> Voice:
    """A saved voice without its state."""
    description: str = about["description"]
    if len(description) > MAX_DESCRIPTION_CHARS:  # saved before there was a bound
        description = description[: MAX_DESCRIPTION_CHARS - 1] + "…"
    return Voice(
        id=name,
        engine=engine,
        name=name,
        languages=tuple(about["languages"]),
        kind="cloned",
        description=description,
        created_at_s=about["created_at_s"],
        consent=about.get("consent", ""),
    )


def check_description(about: Description) -> None:
    """Raise ValueError for a description that is not one of a voice."""
    languages, created_at_s = about.get("languages"), about.get("created_at_s")
    if not isinstance(languages, list) or not all(isinstance(each, str) for each in languages):
        raise ValueError("its languages are not a list of names")
    if type(created_at_s) is not int or not 0 <= created_at_s < 2**53:
        raise ValueError("the time at which it was made is not a number of seconds")
    for key in ("description", "consent"):
        if not isinstance(about.get(key, ""), str):
            raise ValueError(f"its {key} is not a text")
    if "description" not in about:
        raise ValueError("it has no description")


def _saved_key(name: str) -> tuple[str, str]:
    return "saved", name


def _check_text(text: str, most_chars: int, param: str) -> None:
    if len(text) > most_chars:
        raise InputError(
            f"{param} has {len(text)} characters; at most {most_chars} are accepted.", param=param
        )
    for character in text:
        control = unicodedata.category(character) in ("Cc", "Cs") and character not in _LAID_OUT
        if control or character in _DIRECTIONS:
            raise InputError(
                f"{param} holds the control character U+{ord(character):04X}.", param=param
            )
