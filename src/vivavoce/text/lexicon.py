"""Pronunciation lexicon: words that are spoken otherwise than written.

An entry maps a word or phrase to a respelling ("nginx" → "engine x") or to IPA between slashes
("Siobhán" → "/ʃɪˈvɔːn/"). Matching ignores case and finds whole words only, longest entry first.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from vivavoce.errors import InputError, SettingsError
from vivavoce.text.boundaries import CJK
from vivavoce.text.neutralise import neutralise
from vivavoce.types import Span

MAX_REQUEST_ENTRIES = 1_000
MAX_FILE_ENTRIES = 100_000
MAX_WORD_CHARS = 100
MAX_SPOKEN_CHARS = 500

# A CJK character is a word of its own: nothing parts words there.
_TOKEN = re.compile(rf"[{CJK}]|[^\W{CJK}]+|[^\w\s]")
_POSSESSIVE = re.compile(r"['’]s\b")

_Key = tuple[str, ...]
_Index = Mapping[str, tuple[tuple[_Key, str], ...]]


class Lexicon(Mapping[str, str]):
    """Immutable mapping of words to how they are spoken.

    Raises InputError (``param="lexicon"``) for too many entries, empty or overlong ones.
    """

    def __init__(
        self, entries: Mapping[str, str] | None = None, *, max_entries: int = MAX_REQUEST_ENTRIES
    ) -> None:
        own = _checked(entries or {}, max_entries)
        self._layers: tuple[Mapping[str, str], ...] = (MappingProxyType(own),)
        self._indexes: tuple[_Index, ...] = (_index(own),)

    def __getitem__(self, word: str) -> str:
        key = _normal(word)
        for layer in self._layers:
            if key in layer:
                return layer[key]
        raise KeyError(word)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(word for layer in self._layers for word in layer))

    def __len__(self) -> int:
        return len(set().union(*self._layers))

    @classmethod
    def load(cls, path: str | Path) -> Lexicon:
        """Read a lexicon file: TOML (``.toml``), or lines ``word = spoken`` or tab-separated.

        Empty lines and lines that start with ``#`` are skipped. Raises SettingsError that names
        the file and, where there is one, the line.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"The lexicon {path} cannot be read: {error}") from error
        read = _read_toml if path.suffix.lower() == ".toml" else _read_lines
        try:
            return cls(read(path, text), max_entries=MAX_FILE_ENTRIES)
        except InputError as error:
            raise SettingsError(f"The lexicon {path}: {error.message}") from error

    def merged(self, other: Mapping[str, str]) -> Lexicon:
        """A lexicon in which the entries of ``other`` come before these. Raises InputError."""
        if not other:
            return self
        top = other if isinstance(other, Lexicon) else Lexicon(other)
        both = Lexicon()
        both._layers = top._layers + self._layers
        both._indexes = top._indexes + self._indexes
        return both

    def apply(self, text: str) -> tuple[Span, ...]:
        """Split ``text`` into spans: respellings replaced, IPA entries as spans of their own."""
        if not any(self._indexes):
            return (Span(text),) if text else ()
        spans: list[Span] = []
        plain: list[str] = []
        done = 0
        for start, stop, spoken in self._matches(text):
            plain.append(text[done:start])
            if _is_ipa(spoken):
                _flush(plain, spans)
                done, ipa = _with_possessive(text, stop, spoken[1:-1])
                spans.append(Span(text[start:done], ipa))
            else:
                plain.append(spoken)
                done = stop
        plain.append(text[done:])
        _flush(plain, spans)
        return tuple(spans)

    def _matches(self, text: str) -> Iterator[tuple[int, int, str]]:
        tokens = [(found.start(), found.end(), found[0]) for found in _TOKEN.finditer(text)]
        at = 0
        while at < len(tokens):
            found = self._longest(text, tokens, at)
            if found is None:
                at += 1
                continue
            count, spoken = found
            yield tokens[at][0], tokens[at + count - 1][1], spoken
            at += count

    def _longest(
        self, text: str, tokens: list[tuple[int, int, str]], at: int
    ) -> tuple[int, str] | None:
        best: tuple[int, str] | None = None
        first = tokens[at][2].casefold()
        for index in self._indexes:
            for key, spoken in index.get(first, ()):
                count = (len(key) + 1) // 2
                if best is not None and count <= best[0]:
                    break
                if _fits(text, tokens[at : at + count], key):
                    best = (count, spoken)
                    break
        return best


def _fits(text: str, tokens: list[tuple[int, int, str]], key: _Key) -> bool:
    """Whether tokens equal a key: words at even places, "" or " " between them at odd ones."""
    if len(tokens) * 2 - 1 != len(key):
        return False
    end = tokens[-1][1]
    if end < len(text) and unicodedata.category(text[end])[0] == "M":
        return False
    for place, (start, _, word) in enumerate(tokens):
        if word.casefold() != key[2 * place]:
            return False
        if place and (start > tokens[place - 1][1]) != bool(key[2 * place - 1]):
            return False
    return True


def _key(word: str) -> _Key:
    parts: list[str] = []
    end = 0
    for found in _TOKEN.finditer(word):
        if parts:
            parts.append(" " if found.start() > end else "")
        parts.append(found[0].casefold())
        end = found.end()
    return tuple(parts)


def _index(entries: Mapping[str, str]) -> _Index:
    index: dict[str, list[tuple[_Key, str]]] = {}
    for word, spoken in entries.items():
        key = _key(word)
        index.setdefault(key[0], []).append((key, spoken))
    return {
        first: tuple(sorted(keys, key=lambda entry: -len(entry[0])))
        for first, keys in index.items()
    }


def _normal(word: str) -> str:
    return " ".join(neutralise(word).split()).casefold()


def _checked(entries: Mapping[str, str], max_entries: int) -> dict[str, str]:
    if len(entries) > max_entries:
        raise _bad(f"{len(entries)} entries; at most {max_entries} are accepted")
    checked: dict[str, str] = {}
    for word, spoken in entries.items():
        if not isinstance(word, str) or not isinstance(spoken, str):
            raise _bad(f"the entry {word!r} must map text to text")
        if len(word) > MAX_WORD_CHARS or len(spoken) > MAX_SPOKEN_CHARS:
            raise _bad(
                f"the entry {word[:40]!r} is too long (word {MAX_WORD_CHARS},"
                f" spoken {MAX_SPOKEN_CHARS} characters)"
            )
        key, value = _normal(word), neutralise(spoken).strip()
        if not key or not value or (value[0] == "/" and not _is_ipa(value)):
            raise _bad(f"the entry {word!r} needs a word, and a respelling or IPA as /…/")
        checked[key] = value
    return checked


def _bad(message: str) -> InputError:
    return InputError(f"Lexicon: {message}.", param="lexicon")


def _is_ipa(spoken: str) -> bool:
    return len(spoken) > 2 and spoken[0] == "/" == spoken[-1] and not spoken[1:-1].isspace()


def _with_possessive(text: str, stop: int, ipa: str) -> tuple[int, str]:
    """Take an English "'s" into the word, as it sounds after the word's last phoneme."""
    found = _POSSESSIVE.match(text, stop)
    if found is None:
        return stop, ipa
    last = ipa.rstrip("ːˑ")[-1:]
    ending = "ɪz" if last in "szʃʒ" else "s" if last in "ptkfθ" else "z"
    return found.end(), ipa + ending


def _flush(plain: list[str], spans: list[Span]) -> None:
    text = "".join(plain)
    plain.clear()
    if text:
        spans.append(Span(text))


def _read_toml(path: Path, text: str) -> dict[str, str]:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"The lexicon {path}: {error}") from error
    inner = table.get("lexicon")
    entries = inner if isinstance(inner, dict) else table
    for word, spoken in entries.items():
        if not isinstance(spoken, str):
            raise SettingsError(f"The lexicon {path}: the entry {word!r} must be a string.")
    return entries


def _read_lines(path: Path, text: str) -> dict[str, str]:
    entries: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        word, separator, spoken = line.partition("\t" if "\t" in line else "=")
        try:
            if not separator:
                raise _bad("expected 'word = spoken' or two columns parted by a tab")
            entries.update(_checked({word.strip(): spoken.strip()}, 1))
        except InputError as error:
            raise SettingsError(f"The lexicon {path}, line {number}: {error.message}") from error
    return entries
