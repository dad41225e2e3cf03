"""The program ``vivavoce``: its commands, and what becomes of their errors.

Exit status: 0 well, 1 it failed, 2 wrong input or usage, 3 something on this machine is missing or
wrong, 70 the engine failed for good, 130 interrupted, 141 nobody reads the output any more.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vivavoce import __version__
from vivavoce.errors import VivavoceError

COMMANDS = {
    "serve": "serve",
    "say": "say",
    "voices": "voices",
    "voices add": "voices",
    "voices import": "voices",
    "voices remove": "voices",
    "voices export": "voices",
    "models": "models",
    "text": "text",
    "doctor": "doctor",
    "keys": "keys",
    "profile": "profile",
    "bench": "bench",
    "bench engine": "bench_engine",
    "bench quality": "bench_engine",
    "bench recipe": "bench_engine",
}
"""The module of each: the function (or the group of commands) there is the command's name, with
``_`` for a space."""

CONTEXT = {"bench recipe": {"ignore_unknown_options": True, "allow_extra_args": True}}
"""Commands that hand options on to what they run."""

FAILED, WRONG_SETUP, INTERRUPTED, UNREAD = 1, 3, 130, 141


class LazyCommands(TyperGroup):
    """Imports a command's module only when it is asked for; turns errors into exit statuses."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Every command, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, or None."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"vivavoce.cli.{COMMANDS[cmd_name]}")
        function = getattr(module, cmd_name.replace(" ", "_"))
        if isinstance(function, typer.Typer):
            return typer.main.get_command(function)
        single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        single.command(cmd_name, context_settings=CONTEXT.get(cmd_name))(function)
        return typer.main.get_command(single)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the first two words name, or the first."""
        two = " ".join(args[:2])
        if len(args) > 1 and two in COMMANDS:
            return two, self.get_command(ctx, two), args[2:]
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; errors of vivavoce and of the system become one line each."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            _stop_writing()
            raise typer.Exit(UNREAD) from None
        except VivavoceError as error:
            _complain(error.message)
            raise typer.Exit(exit_status(error)) from error
        except OSError as error:
            _complain(_os_message(error))
            raise typer.Exit(FAILED) from error
        return result


app = typer.Typer(
    cls=LazyCommands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"vivavoce {__version__}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Text-to-speech for live voice conversations."""


def main() -> None:
    """Entry point of the program."""
    app(prog_name="vivavoce")


def exit_status(error: VivavoceError) -> int:
    """The exit status an error becomes."""
    return error.exit_status


def _complain(message: str) -> None:
    print("vivavoce: " + " ".join(message.split()), file=sys.stderr)


def _os_message(error: OSError) -> str:
    named = f"{error.filename}: " if error.filename else ""
    return named + (error.strerror or str(error))


def _stop_writing() -> None:
    """Point standard output at nothing, so that the interpreter's last flush succeeds."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.close(nothing)
