"""Options that several commands share, in groups, and the settings they make.

A parameter of a command may be a frozen dataclass, whose fields are options: ``grouped`` shows them
to typer as if they were the command's own.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, TypeAlias, get_type_hints

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


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Which engine speaks, and every other setting."""

    engine: EngineOption = None
    model: ModelOption = None
    config: ConfigOption = None
    sets: SetOption = None

    def settings(self, **given: Any) -> Settings:
        """The settings with these on top, and what else is ``given``. Raises SettingsError."""
        named = {"engine": self.engine, "model_id": self.model}
        return settings_from(self.config, self.sets, **named, **given)


@dataclass(frozen=True, slots=True)
class TextInput:
    """A text, and how it is read."""

    text: TextArgument = None
    file: FileOption = None
    language: LanguageOption = None
    normalize: NormalizeOption = True
    ssml: SsmlOption = False
    lexicon: LexiconOption = None

    def read(self) -> str:
        """The text itself. Raises InputError."""
        return read_text(self.text, self.file)


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters that are dataclasses are replaced by these dataclasses' fields."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    shown: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name in groups:
            shown += _options_of(groups[parameter.name])
        else:
            hint = hints[parameter.name]
            shown.append(parameter.replace(annotation=hint, kind=inspect.Parameter.KEYWORD_ONLY))

    def run(**given: Any) -> None:
        made = {
            name: kind(**{option.name: given.pop(option.name) for option in _options_of(kind)})
            for name, kind in groups.items()
        }
        command(**given, **made)

    run.__doc__, run.__name__ = command.__doc__, command.__name__
    run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    return run


def _options_of(kind: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(kind)
    ]


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


def read_text(argument: str | None, file: Path | None, stdin: BinaryIO | None = None) -> str:
    """The text to speak. Raises InputError where there is none, two, or it is not UTF-8."""
    if file is not None:
        if argument is not None:
            raise InputError("Give the text either as an argument or with --file, not both.")
        return _decoded(_file_bytes(file), str(file))
    if argument is not None and argument != "-":
        return argument
    if argument is None and stdin is None and sys.stdin.isatty():
        raise InputError("There is no text: give it as an argument, with --file, or on stdin.")
    return _decoded((stdin or sys.stdin.buffer).read(), "standard input")


def _file_bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"The text file {file} cannot be read: {error.strerror}.") from error


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"The text in {name} is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}."
        ) from error
