"""Emoji spoken by a short name; a run of the same one is said once."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from vivavoce.text.english.typography import SOFT

_NAMES = {
    "😀": "grinning face", "😃": "smiling face", "😄": "smiling face", "😁": "beaming face",
    "😆": "laughing face", "😅": "nervous smile", "🤣": "rolling on the floor laughing",
    "😂": "tears of joy", "🙂": "smiling face", "😉": "winking face", "😊": "smiling face",
    "😍": "heart eyes", "🥰": "smiling face with hearts", "😘": "blowing a kiss",
    "😎": "cool face", "🤔": "thinking face", "😐": "neutral face", "🙄": "rolling eyes",
    "😏": "smirk", "😢": "crying face", "😭": "loudly crying face", "😡": "angry face",
    "😠": "angry face", "🤬": "swearing face", "😱": "screaming face", "😴": "sleeping face",
    "🤯": "mind blown", "🥳": "party face", "😇": "angel face", "🤗": "hugging face",
    "😬": "grimacing face", "🥺": "pleading face", "😳": "flushed face", "🤩": "star-struck",
    "😋": "yum", "😜": "winking face with tongue", "🙃": "upside-down face", "😞": "sad face",
    "😔": "sad face", "🙁": "frowning face", "☹": "frowning face", "☺": "smiling face",
    "💀": "skull", "👻": "ghost", "💩": "pile of poo", "👍": "thumbs up", "👎": "thumbs down",
    "👏": "clapping hands", "🙌": "raised hands", "🙏": "folded hands", "👋": "waving hand",
    "👌": "OK", "✌": "peace sign", "🤞": "crossed fingers", "💪": "flexed biceps",
    "🤝": "handshake", "✋": "raised hand", "👀": "eyes", "🤷": "shrug", "🤦": "facepalm",
    "❤": "heart", "♥": "heart", "🧡": "orange heart", "💛": "yellow heart",
    "💚": "green heart", "💙": "blue heart", "💜": "purple heart", "🖤": "black heart",
    "💔": "broken heart", "💕": "two hearts", "💖": "sparkling heart", "💯": "one hundred",
    "🔥": "fire", "✨": "sparkles", "⭐": "star", "🌟": "glowing star", "🎉": "party popper",
    "🎊": "confetti ball", "🎂": "birthday cake", "🎁": "gift", "🎈": "balloon",
    "🚀": "rocket", "💡": "light bulb", "📞": "telephone", "☎": "telephone",
    "📱": "mobile phone", "📧": "e-mail", "✉": "envelope", "📅": "calendar", "📍": "pin",
    "📌": "pin", "🔗": "link", "⚠": "warning", "❌": "cross mark", "✅": "check mark",
    "✔": "check mark", "✓": "check mark", "☑": "check mark", "❓": "question mark",
    "❗": "exclamation mark", "🚨": "alarm", "🛑": "stop sign", "⏰": "alarm clock",
    "☀": "sun", "🌞": "sun", "🌧": "rain", "⛈": "thunderstorm", "❄": "snowflake",
    "☕": "coffee", "🍕": "pizza", "🍺": "beer", "🍻": "cheers", "🐶": "dog", "🐱": "cat",
    "🏠": "house", "🚗": "car", "✈": "airplane", "🏆": "trophy", "⚽": "soccer ball",
    "🏀": "basketball", "🎵": "music", "🎶": "music", "🌍": "globe", "🌎": "globe",
    "🌏": "globe", "💰": "money bag", "📈": "rising chart", "📉": "falling chart",
}  # fmt: skip

_BASE = (
    "\u203c\u2049\u231a-\u23ff\u2600-\u27bf\u2b05-\u2b55\U0001f000-\U0001f1e5\U0001f200-\U0001faff"
)
_JOINERS = "\u200d\u20e3\ufe0e\ufe0f\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f\U0001f1e6-\U0001f1ff"
_RUN = re.compile(rf"[{_BASE}{_JOINERS}](?:\s*[{_BASE}{_JOINERS}])*+")
_SEQUENCE = re.compile(
    rf"([{_BASE}])(?:[\ufe0f\ufe0e\U0001f3fb-\U0001f3ff]|\u200d[{_BASE}])*+", re.DOTALL
)
_KEYCAP = re.compile("[\ufe0e\ufe0f]?\u20e3")
_EMOTICON = re.compile(r"(?<!\S)(?:[:;=]-?[)(DPp]|<3|[xX]D|:'\()(?!\S)")
_NOISE = re.compile(r"\b(?:with|sign|symbol|heavy|black|white|face of|for)\b|[^a-z ]")


@lru_cache(maxsize=1024)
def _name(char: str) -> str:
    known = _NAMES.get(char)
    if known is not None:
        return known
    name = unicodedata.name(char, "").lower()
    return " ".join(_NOISE.sub(" ", name).split())


def _say(found: re.Match[str]) -> str:
    names: list[str] = []
    for sequence in _SEQUENCE.finditer(found[0]):
        name = "family" if sequence[0].count("\u200d") > 1 else _name(sequence[1])
        if name and names[-1:] != [name]:
            names.append(name)
    return SOFT + SOFT.join(names) + SOFT if names else " "


def speak_emoji(text: str) -> str:
    """Emoji by their English names, set off by soft pauses; typed emoticons are dropped."""
    if not text.isascii():
        text = _RUN.sub(_say, _KEYCAP.sub("", text))
    return drop_emoticons(text)


def drop_emoticons(text: str) -> str:
    """Typed faces such as ``:-)`` are not spoken."""
    return _EMOTICON.sub("", text)


def drop_emoji(text: str) -> str:
    """For languages without names for them."""
    return text if text.isascii() else _RUN.sub(" ", text)
