"""Signs that have words: mathematics, "&", "@", "#5", "§", Greek letters, slashes; and emoji.

A run of the same emoji is said once, by a short name.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from vivavoce.text.english.markup import SOFT
from vivavoce.text.english.units import say_rate

_WORDS = {
    "=": "equals", "≠": "is not equal to", "≈": "approximately", "×": "times", "÷": "divided by",
    "±": "plus or minus",
    "√": "square root of", "∞": "infinity", "∑": "sum of", "∆": "delta", "°": "degrees",
    "%": "percent", "‰": "per mille", "&": "and", "§": "section", "¶": "paragraph",
    "©": "copyright", "®": "registered", "™": "trademark", "→": "to", "⇒": "implies",
    "←": "from", "↔": "to and from", "↑": "up", "↓": "down", "$": "dollars", "£": "pounds",
    "€": "euros", "¥": "yen", "¢": "cents", "₹": "rupees", "@": "at", "^": "to the power of",
}  # fmt: skip
_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "θ": "theta",
    "λ": "lambda", "μ": "mu", "π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau", "φ": "phi",
    "χ": "chi", "ψ": "psi", "ω": "omega", "Δ": "delta", "Σ": "sigma", "Ω": "omega",
}  # fmt: skip
_SIGN = re.compile(f"[{re.escape(''.join(_WORDS))}]")
_GREEK_LETTER = re.compile(rf"(?<![\u0370-\u03ff])[{''.join(_GREEK)}](?![\u0370-\u03ff])")
_SECTIONS = re.compile(r"§§?\s?")
_NUMBER_SIGN = re.compile(r"(?<![\w#&])#\s?(?=\d)")
_POWERS = re.compile(r"(?<=[\w)])\s?(?:\^|\*\*)\s?(-?)([23])(?![\d.])")
_SHARP = re.compile(r"\b([A-G])#(?!\w)")
_PLUS_PLUS = re.compile(r"(?<=\w)\+\+(?!\w)")
_ABOUT = re.compile(r"(?<!\S)~\s?(?=[\d$£€])")
_LESS = re.compile(r"(?<![<>=-])([<>])(=?)(?![<>-])(?=\s?[\w$£€.-])")
_PLUS = re.compile(r"\s\+\s?|(?<=[\w)])\+(?=[\w(])|(?<=\w)\+(?!\w)|(?<!\S)\+(?=\w)")
_STAR = re.compile(r"(?<=[\w)])\s?\*\s?(?=[\w(])")
_MINUS = re.compile(r"(?<=[\w)])\s-\s(?=[\w(])")
_EQUATION = re.compile(r"[=<>≈≠×÷±√]|\s\+\s")
_OR_PAIRS = frozenset(
    {"he/she", "she/he", "him/her", "his/her", "his/hers", "s/he", "yes/no", "her/his"}
)
_SLASHED = re.compile(r"(?<![\w/])([^\W\d_]+)\s?/\s?([^\W\d_]+)(?![\w/])")
_SLASH = re.compile(r"(?<=\w)\s?[/\\]\s?(?=\w)")


def _say_slashed(found: re.Match[str]) -> str:
    first, second = found[1], found[2]
    if f"{first}/{second}".lower() in _OR_PAIRS:
        return f"{first} or {second}"
    if rate := say_rate(first, second):
        return rate
    if first.lower() == "and" or (first.isupper() and second.isupper()):
        return f"{first} {second}"
    return f"{first} slash {second}"


def _say_less(found: re.Match[str]) -> str:
    words = "less than" if found[1] == "<" else "greater than"
    if found.string[max(0, found.start() - 2) : found.start()].rstrip()[-1:].isalnum():
        words = "is " + words
    return f" {words}{' or equal to' if found[2] else ''} "


def speak_number_signs(text: str) -> str:
    """Signs that must be read before the numbers beside them: "#5", "~5", "§ 3"."""
    text = _NUMBER_SIGN.sub("number ", _SECTIONS.sub("section ", text))
    return _ABOUT.sub("about ", text)


def speak_powers(text: str) -> str:
    """ "x^2" -> "x squared"; after the units, which have squares of their own."""
    return _POWERS.sub(_say_power, text)


def _say_power(found: re.Match[str]) -> str:
    if found[1]:
        return f" to the minus {'two' if found[2] == '2' else 'three'}"
    return " squared" if found[2] == "2" else " cubed"


def speak_symbols(text: str) -> str:
    """Every sign that has a word is spoken; what has none is left for the clean-up."""
    if "#" in text or "+" in text:
        text = _PLUS_PLUS.sub(" plus plus", _SHARP.sub(r"\1 sharp", text))
    if _EQUATION.search(text):
        text = _MINUS.sub(" minus ", text)
    text = _PLUS.sub(" plus ", _STAR.sub(" times ", text))
    if "/" in text or "\\" in text:
        text = _SLASH.sub(" slash ", _SLASHED.sub(_say_slashed, text))
    text = _LESS.sub(_say_less, text)
    if not text.isascii():
        text = _GREEK_LETTER.sub(lambda found: f" {_GREEK[found[0]]} ", text)
    return _SIGN.sub(lambda found: f" {_WORDS[found[0]]} ", text).replace("|", SOFT)


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
