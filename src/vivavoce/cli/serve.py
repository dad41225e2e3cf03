"""``vivavoce serve``: run the server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vivavoce.cli.hangups import has_file_around, hold_hangups_back
from vivavoce.cli.options import (
    ConfigOption,
    EngineOption,
    ModelOption,
    SetOption,
    VoiceOption,
    settings_from,
)

if TYPE_CHECKING:
    from vivavoce.settings import Settings


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to bind; 127.0.0.1 if not said.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind; 8000 if not said.")] = None,
    engine: EngineOption = None,
    voice: VoiceOption = None,
    model: ModelOption = None,
    api_key: Annotated[
        list[str] | None, typer.Option("--api-key", help="A key clients must send; repeatable.")
    ] = None,
    allow_public_without_key: Annotated[
        bool, typer.Option("--allow-public-without-key", help="Bind publicly without a key.")
    ] = False,
    log_level: Annotated[
        str | None, typer.Option("--log-level", help="DEBUG, INFO, WARNING or ERROR.")
    ] = None,
    compat: Annotated[
        str | None,
        typer.Option(help="Serve another server's clients: qwen3-tts-server or neutts-server."),
    ] = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    supervise: Annotated[
        bool, typer.Option("--supervise", help="Start the server again when it has failed.")
    ] = False,
    supervised: Annotated[str | None, typer.Option("--supervised", hidden=True)] = None,
) -> None:
    """Run the speech server until SIGTERM or Ctrl-C."""
    if config is not None or has_file_around():
        hold_hangups_back()
    settings = _settings(
        config,
        sets,
        host=host,
        port=port,
        engine=engine,
        default_voice=voice,
        model_id=model,
        api_keys=tuple(api_key) if api_key else None,
        allow_public_without_key=allow_public_without_key or None,
        log_level=log_level,
        compat=compat,
        exit_on_failure=True if supervised else None,
    )
    if supervise:
        from vivavoce.serving.supervisor import supervise as run_supervised

        raise typer.Exit(run_supervised(settings, own_command()))
    from vivavoce.serving.server import run

    if supervised:
        from vivavoce.serving.supervisor import SupervisorLink

        run(settings, SupervisorLink.inherited(supervised))
    else:
        run(settings)


def _settings(config: Path | None, sets: list[str] | None, **given: Any) -> Settings:
    """The settings; where they name another server, its own for what nobody has set."""
    settings = settings_from(config, sets, **given)
    if not settings.compat:
        return settings
    from vivavoce.serving.compat.presets import PRESETS

    said = settings.model_fields_set
    own = {name: value for name, value in PRESETS[settings.compat].items() if name not in said}
    return settings_from(config, sets, **(given | own))


def own_command() -> list[str]:
    """The command that runs this program with the same arguments, without a supervisor."""
    arguments = [word for word in sys.argv[1:] if word != "--supervise"]
    return [sys.executable, "-P", "-m", "vivavoce.cli", *arguments]
