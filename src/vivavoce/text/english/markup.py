"""What is folded before any rule: marks of HTML and Markdown, and characters beyond plain ones.

Marks are removed and what they mark is kept; quotes, dashes, widths and digits are folded to the
few that the English rules know.
"""

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


_ENTITY = re.compile(r"&#?\w{1,31};")
_TAG = re.compile(
    r"</?(?:[abipqsu]|em|strong|br|span|div|code|pre|h[1-6]|li|[uod]l|dt|dd|sub|sup|small|mark|del"
    r"|ins|tt|kbd|speak|voice|prosody|break|emphasis|say-as|phoneme|lang|table|thead|tbody|t[rdh]|img|hr)(?:\s[^<>]{0,300})?/?>",
    re.IGNORECASE,
)
_COMMENT = re.compile(r"<!--[^<>]{0,300}-->")
# Unescaping must not bring to life what was sanitized before.
_CONTROL_TOKEN = re.compile(r"<\|[^<>|]{0,64}\|>|<\||\|>")
_CONTROLS = re.compile(
    r"[\x00-\x08\x0e-\x1f\x7f-\x9f\u00ad\u200b\u2060\ufeff\ufffd\ue000\ud800-\udfff]"
)

_LINK = re.compile(
    r"!?\[([^\[\]]*+)\](?:\([^()\[\]\s]*+(?:\s\"[^\"()\[\]]*+\")?\)|\[[^\[\]\s]*+\])"
)
_FOOTNOTE = re.compile(r"\[\^[^\[\]\s]{1,40}\]:?")
_AUTOLINK = re.compile(r"<((?:https?://|mailto:)?[^\s<>]{3,300})>")
_RULE_LINE = re.compile(r"^[ \t]*[-*_=|:+~][-*_=|:+~ \t]{2,}$", re.MULTILINE)
_LINE_START = re.compile(
    r"^(?:[ \t]*+(?:>+|#{1,6}(?=\s)|[-*+•‣▪◦●–](?=\s)|\[[ xX]\](?=\s)))++[ \t]*", re.MULTILINE
)
_FENCE = re.compile(r"(?:```|~~~)+[a-z]*")
_STARS = re.compile(r"(?<![\d\s*])\*+|\*+(?![\d\s*])|\*{2,}")
_UNDERSCORES = re.compile(r"(?<![\w/@.-])_+(?=\S)|(?<=\S)_+(?![\w/@.-])")
_STRIKE = re.compile(r"~~+|`+")
_NEEDS_MARKDOWN = re.compile(r"[\[\]*_#>`~|=]|^[ \t]*[-+•‣▪◦●–:]", re.MULTILINE)


def _unescape(text: str) -> str:
    from html import unescape

    for _ in range(3):  # "&amp;lt;" is met in the wild; more layers are not
        if not _ENTITY.search(text):
            break
        text = unescape(text)
    return text


def strip_html(text: str) -> str:
    """HTML entities become their characters, tags become spaces."""
    if "&" in text:
        text = _unescape(text)
    if "<" in text or "|>" in text:
        text = _AUTOLINK.sub(r"\1", _COMMENT.sub(" ", _TAG.sub(" ", text)))
        text = _CONTROL_TOKEN.sub(" ", text)
    return _CONTROLS.sub("", text)


def strip_markdown(text: str) -> str:
    """Markdown marks are removed; the words of links, emphasis and headings stay."""
    if not _NEEDS_MARKDOWN.search(text):
        return text
    if "[" in text:
        text = _FOOTNOTE.sub("", _LINK.sub(r"\1", text))
    text = _LINE_START.sub("", _RULE_LINE.sub("", text))
    text = _STRIKE.sub("", _FENCE.sub("", text))
    return _UNDERSCORES.sub("", _STARS.sub("", text))
