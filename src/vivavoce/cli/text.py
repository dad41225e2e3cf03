"""``vivavoce text``: how a text will be spoken, clause by clause."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vivavoce.cli.options import ConfigOption, TextInput, grouped, settings_from

if TYPE_CHECKING:
    from vivavoce.types import Clause


@grouped
def text(
    wanted: TextInput,
    pauses: Annotated[
        bool, typer.Option("--pauses", help="Also show how each clause ends.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Print the clauses of a text as they will be spoken, one a line."""
    from vivavoce.cli.speaking import lexicon_of
    from vivavoce.errors import EmptyInput
    from vivavoce.text import TextOptions, clauses
    from vivavoce.text.languages import language_code

    settings = settings_from(config)
    options = TextOptions(
        None if wanted.language is None else language_code(wanted.language),
        wanted.normalize and settings.text_normalize,
        wanted.ssml,
        lexicon_of(settings, wanted.lexicon),
    )
    spoken = False
    for clause in clauses(wanted.read(), options):
        spoken = spoken or bool(clause.spans)
        if clause.spans or pauses:
            print(_line(clause) + (f"\t{_ending(clause)}" if pauses else ""))
    if not spoken:
        raise EmptyInput


def _line(clause: Clause) -> str:
    """The clause in one line; pronunciations as IPA between slashes."""
    spoken = "".join(f"/{span.ipa}/" if span.ipa else span.text for span in clause.spans)
    return " ".join(spoken.split())


def _ending(clause: Clause) -> str:
    pause = "" if clause.pause_ms is None else f", pause {clause.pause_ms:g} ms"
    return f"[{clause.end}{pause}]"
