"""The languages of a checkpoint, by its own names and by ISO 639-1 code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vivavoce.errors import InputError, Unsupported, shown
from vivavoce.text.languages import NAMES, language_code

AUTO = "auto"
DIALECT = "dialect"
"""What the names of dialects end with: speakers have them, callers do not choose them."""


def known_languages(ids: Mapping[str, int]) -> tuple[str, ...]:
    """The names a caller may choose from."""
    return tuple(name for name in ids if not name.endswith(DIALECT))


def language_codes(names: Iterable[str]) -> tuple[str, ...]:
    """ISO 639-1 codes of those names that have one, sorted."""
    return tuple(sorted({NAMES[name] for name in names if name in NAMES}))


def model_language(wanted: str | None, ids: Mapping[str, int]) -> str:
    """The checkpoint's name of a language given by that name, a code or a tag; None is "auto".

    Raises Unsupported that lists what there is.
    """
    name = (wanted or AUTO).strip().lower()
    known = known_languages(ids)
    if name == AUTO or name in known:
        return name
    try:
        code = language_code(name)
    except InputError:
        code = ""
    for each in known:
        if NAMES.get(each) == code:
            return each
    listed = ", ".join(sorted([AUTO, *known]))
    raise Unsupported(
        f"Unknown language {shown(name)}. Known languages: {listed}.", param="language"
    )
