"""Language names and tags to ISO 639-1 codes."""

from __future__ import annotations

import re

from vivavoce.errors import InputError, shown

NAMES = {
    "arabic": "ar", "catalan": "ca", "chinese": "zh", "czech": "cs", "danish": "da",
    "dutch": "nl", "english": "en", "farsi": "fa", "finnish": "fi", "french": "fr",
    "german": "de", "greek": "el", "hebrew": "he", "hindi": "hi", "hungarian": "hu",
    "icelandic": "is", "indonesian": "id", "italian": "it", "japanese": "ja", "kazakh": "kk",
    "korean": "ko", "latvian": "lv", "mandarin": "zh", "nepali": "ne", "norwegian": "no",
    "persian": "fa", "polish": "pl", "portuguese": "pt", "romanian": "ro", "russian": "ru",
    "serbian": "sr", "slovak": "sk", "slovenian": "sl", "spanish": "es", "swahili": "sw",
    "swedish": "sv", "turkish": "tr", "ukrainian": "uk", "vietnamese": "vi", "welsh": "cy",
}  # fmt: skip
"""English names, lower case."""

TAG = re.compile(r"([A-Za-z]{2})(?:[-_][A-Za-z0-9]{1,8})*")
"""A BCP 47 tag or a locale that begins with an ISO 639-1 code: en, en-US, en_GB."""


def language_code(language: str) -> str:
    """The code of a language given by English name, ISO 639-1 code, or BCP 47 tag.

    Raises InputError for what is none of them.
    """
    name = language.strip().lower()
    if name in NAMES:
        return NAMES[name]
    tag = TAG.fullmatch(name)
    if tag is None:
        raise InputError(
            f"Unknown language {shown(language)}; give a code such as 'en' or a name such as"
            " 'English'.",
            param="language",
        )
    return tag.group(1)
