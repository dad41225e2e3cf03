"""``vivavoce doctor``: what is installed, what will really be used, and whether it speaks."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from vivavoce.cli.options import (
    ConfigOption,
    EngineOption,
    JsonOption,
    ModelOption,
    SetOption,
    VoiceOption,
    settings_from,
)

if TYPE_CHECKING:
    from vivavoce.cli.diagnosis import Finding

MARKS = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "fault": "[red]FAULT[/]"}


def doctor(
    engine: EngineOption = None,
    voice: VoiceOption = None,
    model: ModelOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    sets: SetOption = None,
) -> None:
    """Check this machine: packages, engine and device, folders, sound, a test synthesis."""
    from vivavoce.cli.diagnosis import diagnose
    from vivavoce.cli.main import WRONG_SETUP

    settings = settings_from(config, sets, engine=engine, model_id=model, default_voice=voice)
    findings = diagnose(settings)
    healthy = all(finding.state != "fault" for finding in findings)
    if as_json:
        checks = [asdict(finding) for finding in findings]
        print(json.dumps({"ok": healthy, "checks": checks}, indent=2, default=str))
    else:
        _print_table(findings)
        print("It speaks." if healthy else "Something is wrong; see FAULT above.")
    if not healthy:
        raise typer.Exit(WRONG_SETUP)


def _print_table(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        table.add_row(MARKS[finding.state], finding.name, escape(finding.summary))
    Console().print(table)
