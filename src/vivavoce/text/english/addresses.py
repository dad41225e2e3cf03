"""E-mail addresses, web addresses, file names, hashtags and handles, as a person reads them out."""

from __future__ import annotations

import re

from vivavoce.text.english.numbers import cardinal, digits

_TLDS = (
    "com|org|net|edu|gov|mil|int|info|biz|name|io|ai|app|dev|cloud|online|store|shop|tech|site|xyz"
    "|me|tv|co|us|uk|ca|eu|de|fr|es|it|nl|be|ch|at|se|no|dk|fi|pl|cz|pt|ie|gr|ru|ua|tr|jp|cn|kr|in"
    "|au|nz|br|mx|ar|za|il|sg|hk|example|test|local"
)
_EXTENSIONS = (
    "txt|pdf|csv|tsv|json|xml|html?|css|jsx?|tsx?|py|rs|go|java|cpp|hpp|sh|sql|ya?ml|toml|ini|cfg"
    "|conf|env|log|md|rst|docx?|xlsx?|pptx?|odt|zip|tar|gz|rar|7z|exe|dmg|iso|apk|png|jpe?g|gif|svg"
    "|webp|bmp|mp3|mp4|wav|ogg|flac|opus|aac|mov|avi|mkv|onnx|gguf|safetensors|whl|dll|so"
)
_DOTTED = rf"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.(?:{_TLDS})"

_EMAIL = re.compile(
    r"(?:mailto:)?(?<![\w.+%-])([A-Za-z0-9_+%-](?:[\w.+%-]{0,63}))@([A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,6})"
)
_URL = re.compile(
    r"\b(?:https?|ftp|wss?)://([^\s<>\"'()\ue000]+)|\b(www\.[^\s<>\"'()\ue000]+)", re.I
)
_HOST = re.compile(
    r"(?<![\w.@/-])(?:[A-Za-z0-9-]{1,63}\.){1,6}(?:"
    + _TLDS
    + r")(?![\w-]|\.\w|'\w)(?:[/:][^\s<>\"'()\ue000]*)?"
)
_FILE = re.compile(
    rf"(?<![\w.-])(\w[\w-]{{0,63}}(?:\.[\w-]{{1,30}}){{0,4}}\.(?:{_EXTENSIONS}))(?![\w/]|\.\w)"
)
_DOTTED_NAME = re.compile(r"(?<=[a-z_][a-z0-9_])\.(?=[a-z_][a-z0-9_])")  # "os.path"
_PATH = re.compile(
    r"(?<!\S)(?:(?:~|\.{1,2}|[A-Za-z]:)[/\\]|[/\\](?=[\w.@~-]+[/\\]))(?:[\w.@~-]++[/\\]?+)++(?![^\s,;:!?)\"'])"
)
_TAG = re.compile(r"(?<![\w#&])#([A-Za-z_]\w{0,99})")
_HANDLE = re.compile(r"(?<![\w@])@(\w{1,64})")

_MARKS = {
    ".": "dot", "/": "slash", "\\": "backslash", "-": "dash", "_": "underscore",
    "?": "question mark",
    "=": "equals", "&": "and", "#": "hash", ":": "colon", "%": "percent", "~": "tilde", "@": "at",
    "+": "plus", "*": "star", "!": "exclamation mark", "$": "dollar", ",": "comma",
    ";": "semicolon",
}  # fmt: skip
_PIECE = re.compile(r"[A-Za-z]+|[0-9]+|[^\W\d_]+|.")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Za-z])(?=[0-9])|_+")
_WORD_TLDS = frozenset({"co", "me", "so"})
_TRAILING = ".,;:!?*\"'"


def _piece(piece: str) -> str:
    if piece in _MARKS:
        return _MARKS[piece]
    if piece[0].isdecimal():
        short = len(piece) <= 2 and piece[0] != "0"
        return cardinal(piece) if short else digits(piece)
    return piece if piece.isalnum() else " "


def spell_address(text: str) -> str:
    """``"a.b/c1"`` -> "a dot b slash c one"."""
    return " ".join(_piece(piece) for piece in _PIECE.findall(text))


def _host(name: str) -> str:
    """A host name; two-letter endings are spelled, so they are written in capitals."""
    head, dot, last = name.rpartition(".")
    if dot and len(last) == 2 and last.lower() not in _WORD_TLDS:
        return f"{spell_address(head)} dot {last.upper()}"
    return spell_address(name)


def _web(address: str) -> str:
    address = address.rstrip(_TRAILING)
    cut = len(address)
    for mark in "/:?#":
        found = address.find(mark)
        cut = min(cut, found) if found >= 0 else cut
    host, rest = address[:cut], address[cut:].rstrip("/")
    return f"{_host(host)} {spell_address(rest)}".rstrip()


def _say_url(found: re.Match[str]) -> str:
    address = found[1] or found[2]
    kept = address.rstrip(_TRAILING)
    return _web(kept) + address[len(kept) :]


def _say_host(found: re.Match[str]) -> str:
    address = found[0]
    kept = address.rstrip(_TRAILING)
    return _web(kept) + address[len(kept) :]


def _say_email(found: re.Match[str]) -> str:
    name, host = found[1], found[2].rstrip("-")
    return f"{spell_address(name)} at {_host(host)}"


def _say_file(found: re.Match[str]) -> str:
    name, _, extension = found[1].rpartition(".")
    spelled = extension if len(extension) > 4 or extension in {"py", "sh", "go", "java"} else ""
    return f"{spell_address(name)} dot {spelled or spell_address(extension.upper())}"


def _say_path(found: re.Match[str]) -> str:
    kept = found[0].rstrip(_TRAILING)
    return spell_address(kept) + found[0][len(kept) :]


def split_camel(name: str) -> str:
    """``"BlackFriday"`` -> "Black Friday"."""
    return " ".join(_CAMEL.sub(" ", name).split())


def speak_emails(text: str) -> str:
    """ "info@example.com" -> "info at example dot com"; "@name" -> "at name"."""
    text = _EMAIL.sub(_say_email, text)
    return _HANDLE.sub(lambda found: f"at {split_camel(found[1])}", text)


def speak_hashtags(text: str) -> str:
    """ "#BlackFriday" -> "hashtag Black Friday"."""
    return _TAG.sub(lambda found: f"hashtag {split_camel(found[1])}", text)


def speak_paths(text: str) -> str:
    """ "/usr/bin" -> "slash usr slash bin"."""
    return _PATH.sub(_say_path, text)


def speak_urls(text: str) -> str:
    """Web addresses with a scheme, host names of known endings, and file names."""
    if "://" in text or "www." in text.lower():
        text = _URL.sub(_say_url, text)
    text = _HOST.sub(_say_host, text)
    return _DOTTED_NAME.sub(" dot ", _FILE.sub(_say_file, text))
