"""``vivavoce voices remove``: forget saved voices."""

from __future__ import annotations

from typing import Annotated

import typer

from vivavoce.cli.options import ConfigOption, EngineOption, ModelOption, SetOption, settings_from
from vivavoce.cli.saved_voices import open_library


def voices_remove(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Saved voices.")],
    engine: EngineOption = None,
    model: ModelOption = None,
    config: ConfigOption = None,
    sets: SetOption = None,
) -> None:
    """Remove saved voices; a server that runs on the same folder has them no more, either."""
    library = open_library(settings_from(config, sets, engine=engine, model_id=model))
    for name in names:
        library.delete(name)
