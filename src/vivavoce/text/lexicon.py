"""Pronunciation lexicon: words that are spoken otherwise than written.

An entry maps a word or phrase to a respelling ("nginx" → "engine x") or to IPA between slashes
("Siobhán" → "/ʃɪˈvɔːn/"). Matching ignores case and finds whole words only, longest entry first.
What a text costs depends on its own length alone, however many entries there are and however much
they have in common: words are looked up token by token in a tree of dictionaries.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from vivavoce.errors import InputError, SettingsError, shown
from vivavoce.text.boundaries import CJK
from vivavoce.text.growth import most_spoken_chars
from vivavoce.text.sanitize import sanitize
from vivavoce.types import Span

MAX_REQUEST_ENTRIES = 1_000
MAX_FILE_ENTRIES = 100_000
MAX_WORD_CHARS = 100
MAX_SPOKEN_CHARS = 500

# A CJK character is a word of its own: nothing parts words there.
_WORD = re.compile(rf"[{CJK}]|[^\W{CJK}]+|[^\w\s]")
_POSSESSIVE = re.compile(r"['’]s\b")

_Token: TypeAlias = tuple[int, int, str]
"""Where a word or mark of a text begins and ends, and what it is, case folded."""

_Found: TypeAlias = tuple[int, str]
"""The token after an entry that was found, and how the entry is spoken."""


@dataclass(slots=True)
class _Node:
    """What follows a run of tokens: how that run is spoken, if it is an entry, and longer runs.

    ``longer`` has the next token as its key, after a space where one parts the two.
    """

    spoken: str | None = None
    longer: dict[str, _Node] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Layer:
    """The entries of one source; layers are shared by the lexicons that are merged of them."""

    entries: Mapping[str, str]
    tree: _Node
    digest: bytes
    growth: float

    @classmethod
    def of(cls, entries: dict[str, str]) -> _Layer:
        tree = _Node()
        for word, spoken in entries.items():
            node = tree
            for step in _steps(word):
                node = node.longer.setdefault(step, _Node())
            node.spoken = spoken
        grown = (most_spoken_chars(said) / len(word) for word, said in entries.items())
        return cls(MappingProxyType(entries), tree, entries_digest(entries), max(grown))


class Lexicon(Mapping[str, str]):
    """Immutable mapping of words to how they are spoken.

    Raises InputError (``param="lexicon"``) for too many entries, empty or overlong ones.
    """

    def __init__(
        self, entries: Mapping[str, str] | None = None, *, max_entries: int = MAX_REQUEST_ENTRIES
    ) -> None:
        own = _checked(entries or {}, max_entries)
        self._layers: tuple[_Layer, ...] = (_Layer.of(own),) if own else ()

    def __getitem__(self, word: str) -> str:
        key = _normal(word)
        for layer in self._layers:
            if key in layer.entries:
                return layer.entries[key]
        raise KeyError(word)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(word for layer in self._layers for word in layer.entries))

    def __len__(self) -> int:
        return len(set().union(*(layer.entries for layer in self._layers)))

    @cached_property
    def digest(self) -> bytes:
        """Of constant size; lexicons that have it in common speak every text alike."""
        return hashlib.sha256(b"".join(layer.digest for layer in self._layers)).digest()

    @property
    def growth(self) -> float:
        """How many times longer a text can become at most, as it is spoken; at least 1."""
        return max([1.0, *(layer.growth for layer in self._layers)])

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
        """A lexicon in which the entries of ``other`` come before these. Raises InputError.

        Nothing is copied: its cost depends on ``other`` alone.
        """
        if not other:
            return self
        top = other if isinstance(other, Lexicon) else Lexicon(other)
        both = Lexicon()
        both._layers = top._layers + self._layers
        return both

    def apply(self, text: str) -> tuple[Span, ...]:
        """Split ``text`` into spans: respellings replaced, IPA entries as spans of their own."""
        if not self._layers:
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
        tokens = [(*found.span(), found[0].casefold()) for found in _WORD.finditer(text)]
        at = 0
        while at < len(tokens):
            found = self._longest(text, tokens, at)
            if found is None:
                at += 1
                continue
            after, spoken = found
            yield tokens[at][0], tokens[after - 1][1], spoken
            at = after

    def _longest(self, text: str, tokens: Sequence[_Token], at: int) -> _Found | None:
        """The longest entry that begins with a token, of the first layer that has one so long."""
        best: _Found | None = None
        for layer in self._layers:
            found = _longest_in(layer.tree, text, tokens, at)
            if found is not None and (best is None or found[0] > best[0]):
                best = found
        return best


def check_count(entries: Mapping[str, str], max_entries: int = MAX_REQUEST_ENTRIES) -> None:
    """Raise InputError for too many entries. A lexicon that was made already is accepted."""
    if not isinstance(entries, Lexicon) and len(entries) > max_entries:
        raise _bad(f"{len(entries)} entries; at most {max_entries} are accepted")


def entries_digest(entries: Mapping[str, str]) -> bytes:
    """Of entries as written, in any order; 32 bytes. Raises InputError for other than text.

    Takes a millisecond for the largest lexicon that a request may bring.
    """
    if isinstance(entries, Lexicon):
        return entries.digest
    digest = hashlib.sha256()
    if not all(isinstance(each, str) for pair in entries.items() for each in pair):
        raise _bad("every entry must map text to text")
    for word, spoken in sorted(entries.items()):
        whole = f"{len(word)},{len(spoken)},{word}{spoken}"
        digest.update(whole.encode("utf-8", "surrogatepass"))
    return digest.digest()


def _longest_in(tree: _Node, text: str, tokens: Sequence[_Token], at: int) -> _Found | None:
    """The longest entry from the token ``at`` on."""
    best: _Found | None = None
    node = tree.longer.get(tokens[at][2])
    while node is not None:
        end = tokens[at][1]
        if node.spoken is not None and not _continues(text, end):
            best = (at + 1, node.spoken)
        at += 1
        if at == len(tokens) or not node.longer:
            break
        start, _, word = tokens[at]
        node = node.longer.get(" " + word if start > end else word)
    return best


def _continues(text: str, end: int) -> bool:
    """Whether a combining mark goes on with what ends there."""
    return end < len(text) and unicodedata.category(text[end])[0] == "M"


def _steps(word: str) -> Iterator[str]:
    """The tokens of an entry, each after a space where one parts it from the one before."""
    end: int | None = None
    for found in _WORD.finditer(word):
        gap = " " if end is not None and found.start() > end else ""
        end = found.end()
        yield gap + found[0].casefold()


def _normal(word: str) -> str:
    return " ".join(sanitize(word).split()).casefold()


def _checked(entries: Mapping[str, str], max_entries: int) -> dict[str, str]:
    check_count(entries, max_entries)
    checked: dict[str, str] = {}
    for word, spoken in entries.items():
        if not isinstance(word, str) or not isinstance(spoken, str):
            raise _bad(f"the entry {shown(str(word))} must map text to text")
        if len(word) > MAX_WORD_CHARS or len(spoken) > MAX_SPOKEN_CHARS:
            raise _bad(
                f"the entry {shown(word)} is too long (word {MAX_WORD_CHARS},"
                f" spoken {MAX_SPOKEN_CHARS} characters)"
            )
        key, value = _normal(word), sanitize(spoken).strip()
        if not key or not value or (value[0] == "/" and not _is_ipa(value)):
            raise _bad(f"the entry {shown(word)} needs a word, and a respelling or IPA as /…/")
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
    except ValueError as error:  # TOMLDecodeError, and a number of 5,000 digits
        raise SettingsError(f"The lexicon {path}: {error}") from error
    except RecursionError as error:
        raise SettingsError(f"The lexicon {path} is nested too deeply.") from error
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
