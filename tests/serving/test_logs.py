"""Nothing that a caller writes can steer the terminal that shows the log, or pass for its lines."""

from __future__ import annotations

import json
import logging
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

import httpx
import pytest
from tests.serving.conftest import Serve, settle

from vivavoce.serving.logs import JsonFormatter, TextFormatter, configure_logging
from vivavoce.settings import Settings

HOSTILE = "".join(
    character
    for character in map(chr, range(0x110000))
    if unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp", "Cs")
)
"""Every control, format character, separator of lines and half of a pair there is."""


def shown(message: str = "said", **extras: Any) -> str:
    record = logging.makeLogRecord({"msg": message, "levelname": "INFO"} | extras)
    return TextFormatter().format(record)


@contextmanager
def logging_to(stream: StringIO) -> Iterator[None]:
    """The server's own logging as text, and what was there before put back."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        configure_logging(Settings(log_format="text"), stream)
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.captureWarnings(False)


@pytest.mark.parametrize("line", [{"message": HOSTILE}, {"path": HOSTILE}, {HOSTILE: 1}])
def test_no_control_character_gets_out(line: dict[str, Any]) -> None:
    text = shown(**line)
    assert text.isprintable()
    assert "\\x1b" in text
    assert "\\u202e" in text
    assert "\\r" in text


def test_what_is_meant_to_be_read_stays() -> None:
    assert shown("größer als 日本 🙂").endswith("größer als 日本 🙂")
    assert shown(voice="Zoë", count=3).endswith(" voice=Zoë count=3")


@pytest.mark.parametrize("value", ["a status=200", 'a"b', 'a\\" b', "", "a\u00a0b", "a\nb c"])
def test_a_value_cannot_pass_for_other_fields(value: str) -> None:
    text = shown(path=value, status=404)
    assert text.endswith(" status=404")
    quoted = text.removesuffix(" status=404").partition(" path=")[2]
    assert quoted.startswith('"')
    assert json.loads(quoted) == value.replace("\n", "\\n")


def test_a_traceback_holds_no_line_that_passes_for_the_logs() -> None:
    try:
        raise ValueError("\x1b[2Jfake\n2026-01-01T00:00:00.000Z ERROR   hacked\r\u202e")
    except ValueError:
        text = shown(exc_info=sys.exc_info())
    first, *rest = text.split("\n")
    assert first.endswith("said")
    assert all(each.startswith("    ") and each.isprintable() for each in rest)
    assert any("hacked" in each for each in rest)


def test_json_lines_stay_as_they_were() -> None:
    line = JsonFormatter().format(logging.makeLogRecord({"msg": HOSTILE, "path": HOSTILE}))
    assert line.isascii() and line.isprintable()
    halves = [each for each in HOSTILE if unicodedata.category(each) == "Cs"]
    assert json.loads(line)["path"].startswith(HOSTILE[: HOSTILE.index(halves[0])])


def test_a_request_cannot_steer_the_terminal(serve: Serve) -> None:
    stream = StringIO()
    with logging_to(stream):
        server = serve()
        path = "/%1b[2J%1b[31mFAKE%0d2026-01-01T00:00:00.000Z%20ERROR%20hacked%e2%80%ae%c2%9b"
        assert httpx.get(server.url + path, trust_env=False).status_code == 404
        names = {"\x1b[31m\r\u202ename": 1, "a b": 2}
        assert server.speak(**names).status_code == 200
        assert settle(lambda: "ignored=" in stream.getvalue())
    text = stream.getvalue()
    assert "\\x1b[2J" in text
    assert all(line.isprintable() for line in text.splitlines())
    assert not [line for line in text.splitlines() if line.startswith("2026-01-01")]
