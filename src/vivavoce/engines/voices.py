"""What the voices of all engines have in common: other servers' names, the default, clones' names.

OpenAI's names are spoken by every engine: by those of its voices that an engine means for them,
where they are there, and else by the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from vivavoce.errors import SettingsError
from vivavoce.types import Voice

OPENAI_VOICES = (
    "alloy", "ash", "ballad", "cedar", "coral", "echo", "fable",
    "marin", "nova", "onyx", "sage", "shimmer", "verse",
)  # fmt: skip
"""The names OpenAI's clients know; every one of them speaks."""


def openai_aliases(voices: Iterable[Voice], meant: Mapping[str, str]) -> Mapping[str, str]:
    """OpenAI's names, each with the voice that is ``meant`` for it, or the first one."""
    ids = [voice.id for voice in voices]
    first = ids[0] if ids else ""
    found = {name: meant.get(name, first) for name in OPENAI_VOICES}
    return MappingProxyType({name: id_ if id_ in ids else first for name, id_ in found.items()})


def default_first(
    voices: tuple[Voice, ...], default: str, meant: Mapping[str, str]
) -> tuple[Voice, ...]:
    """The voices with ``default`` (an id or one of OpenAI's names; empty: as they are) first.

    Raises SettingsError where it is none of them.
    """
    name = openai_aliases(voices, meant).get(default, default)
    if not name:
        return voices
    if name not in {voice.id for voice in voices}:
        listed = ", ".join(voice.id for voice in voices)
        raise SettingsError(f"There is no voice {default!r}; there are: {listed}.", param="voice")
    return tuple(sorted(voices, key=lambda voice: voice.id != name))


def clone_id(digest: str) -> str:
    """The id of a voice that was cloned: it follows from its sound."""
    return f"clone-{digest}"
