"""``vivavoce keys``: keys for the server's callers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vivavoce.cli.options import JsonOption
from vivavoce.errors import InputError

if TYPE_CHECKING:
    from vivavoce.key_table import KeyTable

keys = typer.Typer(
    name="keys", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


@keys.callback()
def about() -> None:
    """Make keys for the server's callers."""


@keys.command("new")
def new(
    name: Annotated[str, typer.Argument(help="Whose it is: letters, digits, _, . and -.")],
    requests_per_minute: Annotated[
        int | None, typer.Option(help="Texts that it may have spoken in a minute.")
    ] = None,
    concurrent: Annotated[
        int | None, typer.Option(help="Texts that it may have spoken at the same time.")
    ] = None,
    voice: Annotated[
        list[str] | None, typer.Option(help="A voice that it may speak as; repeatable.")
    ] = None,
    admin: Annotated[
        bool,
        typer.Option("--admin", help="It may also see usage, clear the cache and delete voices."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a key. It is printed once and stored nowhere; its table goes into the configuration."""
    from vivavoce.key_table import digest_of, new_key

    key = new_key()
    table = _table(
        name=name,
        sha256=digest_of(key).hex(),
        requests_per_minute=requests_per_minute,
        concurrent=concurrent,
        voices=tuple(voice) if voice else None,
        admin=admin,
    )
    fields = table.model_dump(exclude_defaults=True)
    if as_json:
        print(json.dumps({"key": key, "table": fields}, indent=2))
        return
    print(f"The key, shown this once:\n\n{key}\n")
    print("Its table, for the server's configuration file:\n")
    print("[[keys]]")
    for field, value in fields.items():
        # Strings, numbers, booleans and lists of strings are written alike in JSON and in TOML.
        print(f"{field} = {json.dumps(value, ensure_ascii=False)}")


def _table(**fields: Any) -> KeyTable:
    """Raises InputError that names the option at fault."""
    from pydantic import ValidationError

    from vivavoce.key_table import KeyTable

    try:
        return KeyTable(**fields)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise InputError(f"{fault['loc'][0]}: {fault['msg']}.") from error
