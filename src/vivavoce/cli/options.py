"""Options that several commands share, and the settings they make."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from vivavoce.errors import InputError

if TYPE_CHECKING:
    from vivavoce.settings import Settings

ConfigOption: TypeAlias = Annotated[
    Path | None, typer.Option("--config", help="Configuration file (TOML).")
]
EngineOption: TypeAlias = Annotated[
    str | None, typer.Option("--engine", help="The engine that speaks.")
]
VoiceOption: TypeAlias = Annotated[
    str | None, typer.Option("--voice", help="A voice; see `vivavoce voices`.")
]
ModelOption: TypeAlias = Annotated[
    str | None, typer.Option("--model", help="The engine's model: a name or a path.")
]
SetOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any setting, as name=value or engine.name=value; repeatable."),
]
LanguageOption: TypeAlias = Annotated[
    str | None, typer.Option("--language", help="Language of the text: en, de, …")
]
NormalizeOption: TypeAlias = Annotated[
    bool, typer.Option("--normalize/--no-normalize", help="Speak numbers and the like as words.")
]
SsmlOption: TypeAlias = Annotated[bool, typer.Option("--ssml", help="The text is SSML.")]
LexiconOption: TypeAlias = Annotated[
    Path | None, typer.Option("--lexicon", help="Pronunciation lexicon (TOML or tab-separated).")
]
FileOption: TypeAlias = Annotated[
    Path | None, typer.Option("--file", "-f", help="Read the text from a file (UTF-8).")
]
TextArgument: TypeAlias = Annotated[
    str | None, typer.Argument(help="The text; - or nothing reads standard input.")
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def settings_from(config: Path | None, sets: Iterable[str] | None = None, **given: Any) -> Settings:
    """The settings, with what the command line says on top; None means not said.

    Raises SettingsError, and InputError for a ``--set`` that is not ``name=value``.
    """
    from vivavoce.settings import load_settings

    overrides: dict[str, Any] = {}
    for name, value in pairs(sets or (), "--set").items():
        outer, dot, inner = name.partition(".")
        if dot:
            overrides.setdefault(outer, {})[inner] = value
        else:
            overrides[name] = value
    overrides |= {name: value for name, value in given.items() if value is not None}
    return load_settings(config, **overrides)


def pairs(items: Iterable[str], option: str) -> Mapping[str, str]:
    """``name=value`` items as a mapping. Raises InputError that names the option."""
    found: dict[str, str] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name.strip():
            raise InputError(f"{option} takes name=value, not {item!r}.", param=option)
        found[name.strip().replace("-", "_")] = value
    return found


def typed_pairs(items: Iterable[str], option: str) -> dict[str, Any]:
    """``pairs`` whose values are what they look like: numbers, true, null, else text."""
    return {name: _typed(value) for name, value in pairs(items, option).items()}


def _typed(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value
