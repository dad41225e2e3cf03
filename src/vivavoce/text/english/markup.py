"""Left-overs of HTML and Markdown: what marks text up is removed, what it marks is kept."""

from __future__ import annotations

import re

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
