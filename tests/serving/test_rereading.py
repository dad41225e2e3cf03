"""SIGHUP in a process of its own: keys come and go while the server speaks."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import httpx
import pytest
from tests.serving.conftest import PATIENCE_S, hear, settle
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from vivavoce.cli.hangups import serves_with_a_file
from vivavoce.key_table import digest_of
from vivavoce.serving.keys import KeyRing
from vivavoce.serving.rereading import Rereading
from vivavoce.settings import Settings

OWNER, ACME = "the key of the owner", "the key of acme"
START_LIMIT_S = 60.0
COMMAND = (sys.executable, "-c", "from vivavoce.cli.hangups import main; main()", "serve")


def tables(*keys: str) -> str:
    return "".join(
        f'\n[[keys]]\nname = "key-{key.split()[-1]}"\nsha256 = "{digest_of(key).hex()}"\n'
        for key in keys
    )


class Server:
    """``vivavoce serve --config FILE``, and what it logs."""

    def __init__(self, folder: Path, written: str) -> None:
        self.file = folder / "settings.toml"
        self.rewrite(written)
        clean = {name: value for name, value in os.environ.items() if "VIVAVOCE" not in name}
        self.process = subprocess.Popen(
            [*COMMAND, "--config", str(self.file), "--port", "0"],
            env=clean | {"LOG_FORMAT": "json", "VIVAVOCE_DATA_DIR": str(folder)},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = ""

    def await_ready(self) -> None:
        assert settle(lambda: bool(self.logged("listening")), START_LIMIT_S), self.lines
        self.url = self.logged("listening")[0]["url"]
        assert settle(lambda: self.status("", "/readyz") == 200, START_LIMIT_S), self.lines

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(json.loads(line))

    def logged(self, message: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["message"] == message]

    def rewrite(self, written: str) -> None:
        self.file.write_text(f"engine = 'fake'\n{written}")

    def hang_up(self, message: str) -> dict[str, Any]:
        """Send SIGHUP and wait for what the server says to it."""
        before = len(self.logged(message))
        self.process.send_signal(signal.SIGHUP)
        assert settle(lambda: len(self.logged(message)) > before), self.lines
        return self.logged(message)[-1]

    def status(self, key: str, path: str = "/v1/models") -> int:
        headers = {"X-API-Key": key} if key else {}
        return httpx.get(self.url + path, headers=headers, trust_env=False).status_code

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code


@contextmanager
def running(folder: Path, written: str) -> Iterator[Server]:
    """A server that is ready; it must end with status 0, and ends whatever happens."""
    live = Server(folder, written)
    try:
        live.await_ready()
        yield live
    finally:
        code = live.end()
    assert code == 0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path, tables(OWNER, ACME)) as live:
        yield live


BROKEN = {
    "not UTF-8": b"engine = '\xff\xfe'",
    "nested too deeply": b"fake = {a = " + b"[" * 3_000 + b"]" * 3_000 + b"}",
    "cannot be read": b"port = " + b"9" * 5_000,
    "not TOML": b"x = [",
}


@pytest.mark.parametrize("why", BROKEN)
def test_a_file_that_cannot_be_used_leaves_the_keys_as_they_are_and_says_why(
    server: Server, why: str
) -> None:
    server.file.write_bytes(BROKEN[why])
    said = server.hang_up("the keys stay as they are")
    assert why in said["why"]
    assert str(server.file) in said["why"]
    assert (server.status(OWNER), server.status(ACME), server.status("")) == (200, 200, 401)
    server.rewrite(tables(ACME))
    server.hang_up("keys read again")
    assert (server.status(OWNER), server.status(ACME)) == (401, 200)


@pytest.mark.parametrize("why", BROKEN)
def test_a_server_does_not_start_with_it_and_says_so_in_a_sentence(
    why: str, tmp_path: Path
) -> None:
    file = tmp_path / "settings.toml"
    file.write_bytes(BROKEN[why])
    ended = subprocess.run(
        [*COMMAND, "--config", str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 3
    assert why in ended.stderr
    assert "Traceback" not in ended.stderr


def holds_hangups_back(pid: int) -> bool:
    found = re.search(r"SigBlk:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return found is not None and bool(int(found[1], 16) & 1 << (signal.SIGHUP - 1))


def test_a_hang_up_before_the_server_listens_ends_nothing_and_is_not_lost(tmp_path: Path) -> None:
    server = Server(tmp_path, tables(OWNER, ACME))
    try:
        assert settle(lambda: holds_hangups_back(server.process.pid), START_LIMIT_S)
        assert not server.logged("listening")
        server.process.send_signal(signal.SIGHUP)
        server.await_ready()
        assert settle(lambda: bool(server.logged("keys read again"))), server.lines
        assert server.status(OWNER) == 200
        server.hang_up("keys read again")
    finally:
        assert server.end() == 0


@pytest.mark.parametrize(
    ("words", "around", "held"),
    [
        (["serve", "--config", "keys.toml"], "", True),
        (["serve", "--port", "1", "--config=keys.toml"], "", True),
        (["serve"], "keys.toml", True),
        (["serve"], "", False),
        (["say", "--config", "keys.toml"], "keys.toml", False),
        ([], "keys.toml", False),
    ],
)
def test_hang_ups_are_held_back_for_servers_that_have_keys_in_a_file(
    words: list[str], around: str, held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIVAVOCE_CONFIG", around)
    assert serves_with_a_file(words) == held


class SlowFile:
    """Settings whose file is read by threads that take their time, the first one most of it."""

    def __init__(self) -> None:
        self.written = "old"
        self.reading = self.most = 0

    def reread(self) -> Settings:
        self.reading += 1
        self.most = max(self.most, self.reading)
        found = self.written
        time.sleep(0.2 if found == "old" else 0.01)
        self.reading -= 1
        return Settings(api_keys=(f"the {found} key, long enough",))


async def test_the_latest_file_wins_however_long_an_earlier_one_takes() -> None:
    file, ring = SlowFile(), KeyRing(())
    rereading = Rereading(ring, cast(Settings, file))
    with patch("vivavoce.serving.rereading._changed", lambda *_: ""):
        rereading.ask()
        await asyncio.sleep(0.05)
        file.written = "new"
        for _ in range(300):
            rereading.ask()
        while rereading._reading is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert [key.digest for key in ring.keys] == [digest_of("the new key, long enough")]
    assert file.most == 1


def test_a_key_that_is_removed_opens_nothing_from_then_on(server: Server) -> None:
    assert (server.status(OWNER), server.status(ACME)) == (200, 200)
    url = server.url.replace("http", "ws") + "/v1/audio/speech/ws"
    with connect(url, proxy=None, additional_headers={"X-API-Key": ACME}) as connection:
        connection.send('{"input": "Hi you."}')
        assert hear(connection)[0][-1]["event"] == "done"
        server.rewrite(tables(OWNER, "a new key"))
        said = server.hang_up("keys read again")
        assert (said["keys"], said["new"], said["removed"]) == (2, 1, 1)
        connection.send('{"input": "Hi you."}')
        assert hear(connection)[0][-1]["code"] == "invalid_api_key"
        with pytest.raises(ConnectionClosed):
            connection.recv(timeout=PATIENCE_S)
    assert (server.status(OWNER), server.status(ACME)) == (200, 401)
    assert server.status("a new key") == 200


def test_a_broken_file_leaves_the_keys_as_they_are(server: Server) -> None:
    for broken in ("[[keys]\n", "[[keys]]\nname = 'a'\n", "api_keys = ['']\n"):
        server.rewrite(broken)
        said = server.hang_up("the keys stay as they are")
        assert said["level"] == "ERROR"
        assert said["why"]
        assert (server.status(OWNER), server.status(ACME), server.status("")) == (200, 200, 401)
    server.file.unlink()
    server.hang_up("the keys stay as they are")
    assert server.status(ACME) == 200
    server.rewrite(tables(OWNER))
    server.hang_up("keys read again")
    assert server.status(ACME) == 401


def test_without_any_key_left_nobody_comes_in(server: Server) -> None:
    server.rewrite("")
    server.hang_up("no key is left: nobody can come in until there is one")
    assert (server.status(OWNER), server.status("")) == (401, 401)
    assert server.status("", "/livez") == 200
    server.rewrite(tables(ACME))
    server.hang_up("keys read again")
    assert server.status(ACME) == 200


def test_other_settings_wait_for_the_next_start_and_are_named(server: Server) -> None:
    server.rewrite("max_input_chars = 7\ncapacity = 2\n" + tables(OWNER))
    said = server.hang_up("these settings change at the next start")
    assert said["settings"] == "capacity, max_input_chars"


def test_a_server_that_gets_its_first_key_asks_for_it(tmp_path: Path) -> None:
    with running(tmp_path, "") as server:
        assert server.status("") == 200
        server.rewrite(tables(OWNER))
        server.hang_up("keys read again")
        assert (server.status(""), server.status(OWNER)) == (401, 200)
