"""Characters folded to the few that the English rules know: quotes, dashes, widths, digits."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

# A pause that becomes a comma between words and nothing elsewhere (see punctuation.py).
SOFT = "\ue000"

_QUOTES = dict.fromkeys("“”„‟«»‹›″「」『』〝〞", '"') | dict.fromkeys("‘’‚‛′ʼ`´", "'")
_DASHES = dict.fromkeys("‐‑‒–−﹣", "-") | dict.fromkeys("—―⸺⸻", SOFT)
_STOPS = {
    "…": "...",
    "。": ". ",
    "、": ", ",
    "¿": "",
    "¡": "",
    "‼": "!",
    "⁇": "?",
    "⁈": "?",
    "⁉": "?",
}
_SUPERSCRIPTS = {char: f"^{value}" for value, char in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
_SIGNS = {
    "⁄": "/",
    "∕": "/",
    "µ": "μ",
    "≤": "<=",
    "≥": ">=",
    "℃": "°C",
    "℉": "°F",
    "№": "No. ",
    "⋅": "×",
}
_TABLE = str.maketrans(_QUOTES | _DASHES | _STOPS | _SUPERSCRIPTS | _SIGNS)

_OTHER = re.compile(r"[^\x00-\x7f]")
_FRACTION_SIGN = re.compile(r"([0-9]?)([¼½¾⅐-⅞↉])")
_NARROW_SPACES = re.compile(r"(?<=[0-9])[\u00a0\u2009\u202f](?=[0-9]{3}(?![0-9]))")
_SPLIT_POWER = re.compile(r"(?<=\^[0-9])\^(?=[0-9])")


@lru_cache(maxsize=4096)
def _folded(char: str) -> str:
    """Compatibility forms to plain ones, digits of other scripts to ASCII ones."""
    if char == SOFT:
        return char
    value = unicodedata.decimal(char, None)
    if value is not None:
        return str(value)
    if unicodedata.category(char) in {"Cc", "Cf", "Co", "Cn", "Cs"}:
        return ""
    if unicodedata.decomposition(char).startswith("<") and char not in "™":
        return unicodedata.normalize("NFKC", char)
    return char


def _fraction_sign(found: re.Match[str]) -> str:
    written = unicodedata.normalize("NFKC", found[2])
    return f"{found[1]} {written}" if found[1] else written


def fold(text: str) -> str:
    """Plain forms of typographic characters. ASCII text is returned as it is."""
    if text.isascii():
        return text
    text = _NARROW_SPACES.sub("", text)
    text = _FRACTION_SIGN.sub(_fraction_sign, text)
    text = _OTHER.sub(lambda found: _folded(found[0]), text.translate(_TABLE))
    return _SPLIT_POWER.sub("", text.translate(_TABLE))
