"""Names that people give to what is saved, and the file names that stand for them.

A name may hold the letters of any script. A file name must do on every file system: those that know
no case, those that decompose accents, those with 255 bytes and those with reserved words. So a name
of plain letters is its own file name, and any other becomes a readable part and a digest.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

from vivavoce.errors import InputError

MAX_NAME_CHARS = 64

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_OTHER = " _-."
_READABLE_CHARS = 40
_DIGEST_CHARS = 16

MARK = "~"
"""Parts a file name's readable beginning from what makes it unique; no name holds it."""


def normal_name(name: str) -> str:
    """The one spelling (Unicode's NFC) of a name that can be typed in several."""
    return unicodedata.normalize("NFC", name)


def checked_name(name: str) -> str:
    """A new name in its normal spelling. Raises InputError for one that cannot be."""
    normal = normal_name(name)
    fits = 1 <= len(normal) <= MAX_NAME_CHARS and not normal.endswith(" ")
    if not fits or not _is_letter(normal[0]) or not all(map(_may_be_in_a_name, normal)):
        raise InputError(
            f"A name has 1 to {MAX_NAME_CHARS} letters, digits, spaces, '_', '-' or '.'; it starts"
            " with a letter or digit and does not end with a space.",
            param="name",
        )
    return normal


def folded(name: str) -> str:
    """What two names have in common that are told apart by their case alone."""
    return normal_name(name.casefold())


def file_stem(name: str) -> str:
    """The file name, without its ending, that stands for a name."""
    if _PLAIN.fullmatch(name) and not _RESERVED.fullmatch(name) and len(name) <= MAX_NAME_CHARS:
        return name
    ascii_letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    readable = re.sub(r"[^A-Za-z0-9]+", "-", ascii_letters).strip("-")[:_READABLE_CHARS]
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_CHARS]
    return f"{readable}{MARK}{digest}"


def _is_letter(character: str) -> bool:
    return unicodedata.category(character)[0] == "L" or unicodedata.category(character) == "Nd"


def _may_be_in_a_name(character: str) -> bool:
    # Marks are parts of letters in many scripts.
    return _is_letter(character) or unicodedata.category(character)[0] == "M" or character in _OTHER
