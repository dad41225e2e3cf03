"""What is wrong with settings, in words: unknown names with the nearest known one, wrong values,
and the variables of other servers that have no setting here.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource, PydanticBaseSettingsSource

from vivavoce.errors import SettingsError

ANSWERS = {
    "VAD_TRIM": "silence around each clause is always trimmed, and natural pauses take its place",
    "STREAM_TYPE": "each request chooses: stream_mode 'token' (the default) or 'sentence'",
    "STREAM_EMIT_FRAMES": "the sizes of chunks follow from the measured speed of the machine",
    "STREAM_FIRST_EMIT": "the first chunk is one frame where the machine is fast enough",
    "MAX_BATCH_SIZE": "requests join the batch at any frame; VIVAVOCE_CAPACITY says how many speak "
    "at once, and the engine's own capacity how many rows there are",
    "INFERENCE_CPU_CORES": "the engine's option threads (VIVAVOCE_QWEN3__THREADS), with taskset or "
    "Docker's cpuset to bind it to cores",
    "GATEWAY_MODE": "IDLE_TIMEOUT gives the model's memory back, and --supervise holds the port",
    "WORKER_HOST": "there is no second process to reach; see GATEWAY_MODE",
    "WORKER_PORT": "there is no second process to reach; see GATEWAY_MODE",
    "UNIX_SOCKET_PATH": "the server listens on an address; a proxy can offer a socket",
}

"""Variables of the servers people move over from, and what does instead of them. Their names are so
general that they may be meant for somebody else, so none of them is an error; but nothing that was
set is passed over without a word."""


def check_environment(prefix: str, names: Iterable[str]) -> None:
    """Raise SettingsError for a prefixed variable that none of ``names`` has.

    A misspelt one would be ignored silently.
    """
    known = {prefix + name.upper() for name in names}
    for name in sorted(os.environ):
        variable = name.upper()
        if not variable.startswith(prefix) or variable.split("__")[0] in known:
            continue
        near = get_close_matches(variable, sorted(known), n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise SettingsError(f"Unknown environment variable {name}.{hint}", param=name)


def unreadable(path: Path | None, error: Exception) -> SettingsError:
    """Why a configuration file cannot be read: what came of reading it, in words."""
    if isinstance(error, tomllib.TOMLDecodeError):
        why = f"is not TOML: {error}"
    elif isinstance(error, UnicodeDecodeError):
        why = f"is not UTF-8: {error}"
    elif isinstance(error, RecursionError):
        why = "is nested too deeply."
    else:  # no rights; a number of 5,000 digits
        why = f"cannot be read: {error}"
    return SettingsError(f"The configuration file {path} {why}")


def leave_out_empty(source: PydanticBaseSettingsSource, but_for: Iterable[str]) -> None:
    """Make an environment's variables without a value as good as not set.

    Compose writes ``NAME: ${NAME:-}`` so, and nobody means a number or a folder by it. ``but_for``
    are those that mean something when they are empty.
    """
    assert isinstance(source, EnvSettingsSource)
    kept = {name.lower() for name in but_for}
    source.env_vars = {
        name: value for name, value in source.env_vars.items() if value or name.lower() in kept
    }


def explain(error: Exception, names: Iterable[str]) -> str:
    """The faults that pydantic found, each with its setting; ``names`` are the known ones."""
    if not isinstance(error, ValidationError):
        return str(error)
    lines = []
    for fault in error.errors():
        at = fault["loc"][1:] if fault["loc"][:1] == ("engines",) else fault["loc"]
        where = ".".join(str(part) for part in at) or "settings"
        said = fault["msg"]
        if fault["type"] == "extra_forbidden":
            near = get_close_matches(where, list(names), n=1)
            said = "unknown setting"
            if isinstance(fault["input"], dict):
                said += ", and no engine of that name is installed"
            said += f", did you mean {near[0]}?" if near else ""
        lines.append(f"{where}: {said}")
    return "; ".join(lines)


def moved_variables(environment: Mapping[str, str] = os.environ) -> list[str]:
    """A sentence for each such variable that has a value."""
    return [
        f"{name}={environment[name]} has no effect: {answer}."
        for name, answer in ANSWERS.items()
        if environment.get(name)
    ]
