"""Text to token ids, as the model was trained on them.

Byte-level BPE over vocab.json and merges.txt after NFC and the Qwen2 split. A caller's text is
always ordinary text: ``<|im_end|>`` in it is spelt in small pieces and never steers the model.
The ids of the markers come from tokenizer_config.json and are only used by the prompt pieces.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unicodedata import category, combining

from vivavoce.errors import MissingExtra, ModelFileError
from vivavoce.runtime.json_config import JsonObject

if TYPE_CHECKING:
    from tokenizers import Tokenizer


SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""The published pre-tokenizer: one match is one piece that merges cannot cross."""

IM_START, IM_END = "<|im_start|>", "<|im_end|>"


LONG_RUN = 64
"""Longer than any word: what does not end by then is not looked at with each new letter."""


class Piece(NamedTuple):
    """Characters ``start`` to ``end`` of a text; ``mapped`` has one character a byte of them."""

    start: int
    end: int
    mapped: str


@dataclass(frozen=True, slots=True)
class TextTokenizer:
    """The tokenizer of one checkpoint folder. Safe to share between threads."""

    backend: Tokenizer
    seams: TokenSeams
    im_start_id: int
    im_end_id: int

    @classmethod
    def load(cls, folder: Path | str) -> TextTokenizer:
        """Read vocab.json, merges.txt and tokenizer_config.json.

        Raises ModelFileError that names a missing or damaged file, MissingExtra.
        """
        folder = Path(folder)
        vocab = JsonObject.read(folder / "vocab.json")
        added = _added(JsonObject.read(folder / "tokenizer_config.json"))
        missing = [marker for marker in (IM_START, IM_END) if marker not in added]
        if missing:
            named = " and ".join(missing)
            raise ModelFileError(f"{folder / 'tokenizer_config.json'} does not have {named}.")
        backend = _backend(folder, dict(vocab.values), _merges(folder / "merges.txt"))
        return cls(backend, TokenSeams.of(vocab.values), added[IM_START], added[IM_END])

    def encode(self, text: str) -> list[int]:
        """Ids of ``text`` without the white space around it; markers are ordinary text."""
        return self.encode_exactly(text.strip())

    def encode_exactly(self, text: str) -> list[int]:
        """Ids of ``text`` as it is."""
        ids: list[int] = self.backend.encode(text, add_special_tokens=False).ids
        return ids

    def role(self) -> list[int]:
        """What every prompt begins its answer with: start marker, "assistant", line break."""
        return [self.im_start_id, *self.encode_exactly("assistant\n")]

    def instruction(self, text: str) -> list[int]:
        """A whole user turn that says how to speak; goes before the role."""
        body = self.encode_exactly(f"user\n{text.strip()}")
        return [self.im_start_id, *body, self.im_end_id, *self.encode_exactly("\n")]

    def split(self, text: str) -> list[Piece]:
        """The pieces of ``text``, which is in NFC; each is encoded by itself."""
        splits = self.backend.pre_tokenizer.pre_tokenize_str(text)  # type: ignore[union-attr]
        return [Piece(start, end, mapped) for mapped, (start, end) in splits]

    def piece_ids(self, mapped: str) -> list[int]:
        """Ids of one piece, or of what is left of a seam in it, in the byte-level alphabet."""
        return [token.id for token in self.backend.model.tokenize(mapped)]

    def compose(self, text: str) -> str:
        """``text`` in NFC, by the same tables that ``encode`` uses."""
        composed: str = self.backend.normalizer.normalize_str(text)  # type: ignore[union-attr]
        return composed


class IncrementalTokenizer:
    """Tokens of a text that arrives in pieces: any splitting gives the ids of the whole.

    A piece of text is settled when no continuation can change it: the last word, the last
    character (which may still be composed with a mark) and white space at the end are held
    back. A run over ``LONG_RUN`` is looked at again when it ends or has grown by an eighth, so
    that a word of any length costs no more than a text of that length. Not safe to share between
    threads.
    """

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._held = ""
        self._begun = False
        self._enough = 0

    @property
    def held(self) -> str:
        """The text that is not settled yet."""
        return self._held

    def feed(self, text: str) -> list[int]:
        """Take more text; the ids that are settled by it."""
        same = self._held[-1:] and all(_kind(letter) == _kind(self._held[-1]) for letter in text)
        self._held += text
        if same and len(self._held) < self._enough:
            return []
        held = self._tokenizer.compose(self._held)
        if not self._begun:
            held = held.lstrip()
            self._begun = bool(held)
        pieces, rest = self._settled(held)
        self._held = held[rest:]
        self._enough = len(self._held) * 9 // 8 if len(self._held) > LONG_RUN else 0
        return [id_ for piece in pieces for id_ in self._tokenizer.piece_ids(piece)]

    def close(self) -> list[int]:
        """The ids of what was held back; nothing may be fed after."""
        rest, self._held = self._held.rstrip(), ""
        return self._tokenizer.encode_exactly(rest)

    def _settled(self, text: str) -> tuple[list[str], int]:
        """The pieces of ``text`` with final tokens, mapped, and where the rest begins."""
        stable = min(_last_starter(text), len(text.rstrip()))
        pieces = self._tokenizer.split(text)
        while pieces and pieces[-1].start > stable:
            pieces.pop()
        if not pieces:
            return [], 0
        last = pieces.pop()
        settled = [piece.mapped for piece in pieces]
        known = last.mapped[: len(text[last.start : stable].encode())]
        seam = self._tokenizer.seams.last(text[last.start :], known, stable - last.start)
        if seam:
            settled.append(known[: len(text[last.start : last.start + seam].encode())])
        return settled, last.start + seam


def _kind(letter: str) -> int:
    return 2 if letter.isspace() else int(category(letter)[0] in "LM")


def _last_starter(text: str) -> int:
    """Where the last character is that a mark to come could change (0 if there is none).

    Characters this Python does not know count as marks.
    """
    for at in range(len(text) - 1, -1, -1):
        if not combining(text[at]) and category(text[at]) != "Cn":
            return at
    return 0


def _added(file: JsonObject) -> dict[str, int]:
    """Ids of the added tokens by their text."""
    entries = file.child("added_tokens_decoder")
    added = {}
    for number in entries.values:
        if not number.isdecimal():
            raise entries.fault(number, "is no token id")
        added[entries.child(number).get("content", str)] = int(number)
    return added


def _merges(path: Path) -> list[tuple[str, str]]:
    try:
        lines = path.read_text("utf-8").split("\n")
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ModelFileError(f"{path} is damaged: it is not UTF-8.") from error
    merges = []
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#version"):
            continue
        left, _, right = line.partition(" ")
        if not left or not right or " " in right:
            raise ModelFileError(f"{path} is damaged: line {number} is no pair.")
        merges.append((left, right))
    return merges


def _backend(folder: Path, vocab: dict[str, Any], merges: Sequence[tuple[str, str]]) -> Tokenizer:
    try:
        from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
        from tokenizers.models import BPE
    except ImportError as error:
        raise MissingExtra("The text tokenizer of Qwen3-TTS", "qwen3") from error
    if not all(isinstance(id_, int) for id_ in vocab.values()):
        raise ModelFileError(f"{folder / 'vocab.json'} is damaged: not every value is an id.")
    unknown = next((pair for pair in merges if not _known(pair, vocab)), None)
    if unknown is not None:
        files = f"{folder / 'vocab.json'} and merges.txt"
        raise ModelFileError(f"{files} do not belong together: {' '.join(unknown)!r}.")
    backend = Tokenizer(BPE(vocab=vocab, merges=list(merges)))
    backend.normalizer = normalizers.NFC()
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"), byte_level]
    )
    backend.decoder = decoders.ByteLevel()
    return backend


def _known(pair: tuple[str, str], vocab: dict[str, Any]) -> bool:
    left, right = pair
    return left in vocab and right in vocab and left + right in vocab


FIRST_UNSPACED = "\u2e80"
"""From here on Unicode has the scripts that write without spaces (and Hangul, which is long)."""


@dataclass(frozen=True, slots=True)
class TokenSeams:
    """The tokens that can matter, sorted, in the byte-level alphabet (one character a byte)."""

    tokens: Sequence[str]
    longest: int

    @classmethod
    def of(cls, vocabulary: Iterable[str]) -> TokenSeams:
        """From all tokens of a byte-level vocabulary; pure ASCII ones cannot lie across."""
        tokens = sorted(token for token in vocabulary if not token.isascii())
        return cls(tokens, max(map(len, tokens), default=0))

    def last(self, piece: str, mapped: str, before: int) -> int:
        """The last seam of ``piece`` at or before character ``before``, or 0 for none nearby.

        ``mapped`` is the beginning of the piece that is certain, in the byte-level alphabet.
        """
        at_byte = len(piece[:before].encode())
        for at in range(before, max(0, before - self.longest), -1):
            if _unspaced(piece[at - 1]) and _unspaced(piece[at]) and self._clear(mapped, at_byte):
                return at
            at_byte -= len(piece[at - 1].encode())
        return 0

    def _clear(self, mapped: str, at: int) -> bool:
        first = max(0, at - self.longest + 1)
        return not any(self._lies_across(mapped, start, at) for start in range(first, at))

    def _lies_across(self, mapped: str, start: int, at: int) -> bool:
        """Whether a token from ``start`` can end after ``at``, the text going on as it likes."""
        for end in range(at + 1, len(mapped) + 1):
            given = mapped[start:end]
            place = bisect_left(self.tokens, given)
            if place == len(self.tokens) or not self.tokens[place].startswith(given):
                return False
            if self.tokens[place] == given:
                return True
        return True


def _unspaced(character: str) -> bool:
    return character >= FIRST_UNSPACED and character.isalpha()
