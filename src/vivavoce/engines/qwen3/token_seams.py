"""Where a run of letters can be cut without changing its tokens.

Byte-level BPE only ever makes tokens of the vocabulary. A place in the text that no token can lie
across, whatever follows, is a seam: the tokens left of it are final. Chinese and Japanese have
no spaces, so without seams nothing before the next punctuation mark would be.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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
