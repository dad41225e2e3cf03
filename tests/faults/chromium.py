"""A real browser, driven over the Chrome DevTools Protocol: no library between it and the test.

``CHROMIUM`` in the environment names the program; else it is Debian's, where that is installed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic",
    "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-extensions", "--no-proxy-server", "--remote-debugging-port=0",
)  # fmt: skip
START_LIMIT_S = 60.0
ANSWER_LIMIT_S = 30.0


def program() -> str | None:
    """Where the browser is, if there is one."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium")


class Page:
    """One tab."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._count = 0
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._ask(f"{domain}.enable")

    def visit(self, url: str) -> None:
        """Go there and wait until the page is loaded."""
        self.events.clear()
        self._ask("Page.navigate", url=url)
        until_s = time.monotonic() + ANSWER_LIMIT_S
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._receive(until_s)

    def run(self, script: str) -> Any:
        """The value of an expression, awaited; what it throws is an AssertionError."""
        answer = self._ask(
            "Runtime.evaluate",
            expression=script,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, script: str) -> Any:
        """The value of an expression, once it is true."""
        until_s = time.monotonic() + ANSWER_LIMIT_S
        while not (value := self.run(script)):
            assert time.monotonic() < until_s, f"never true: {script}"
            time.sleep(0.02)
        return value

    def put_file(self, selector: str, path: Path) -> None:
        """Choose a file in an input of the page."""
        document = self._ask("DOM.getDocument")["root"]["nodeId"]
        found = self._ask("DOM.querySelector", nodeId=document, selector=selector)
        self._ask("DOM.setFileInputFiles", files=[str(path)], nodeId=found["nodeId"])

    @property
    def requested(self) -> list[str]:
        """The URL of every request since the visit began."""
        sent = [event for event in self.events if event["method"] == "Network.requestWillBeSent"]
        return [str(event["params"]["request"]["url"]) for event in sent]

    @property
    def complaints(self) -> list[str]:
        """What the browser has written to its console, violations of policies among it."""
        self.run("0")
        entries = [event for event in self.events if event["method"] == "Log.entryAdded"]
        return [str(event["params"]["entry"]["text"]) for event in entries]

    def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._count += 1
        self._connection.send(json.dumps({"id": self._count, "method": method, "params": params}))
        until_s = time.monotonic() + ANSWER_LIMIT_S
        while (message := self._receive(until_s)).get("id") != self._count:
            pass
        assert "error" not in message, (method, message["error"])
        return dict(message["result"])

    def _receive(self, until_s: float) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(
            self._connection.recv(timeout=max(until_s - time.monotonic(), 0.0))
        )
        if "method" in message:
            self.events.append(message)
        return message


@contextmanager
def browser(folder: Path, *flags: str) -> Iterator[Page]:
    """A tab of a browser with a profile of its own in ``folder``."""
    command = [str(program()), *FLAGS, *flags, f"--user-data-dir={folder}", "about:blank"]
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        with connect(_tab(folder, process), proxy=None, max_size=None) as connection:
            yield Page(connection)
    finally:
        process.terminate()
        process.wait(START_LIMIT_S)


def _tab(folder: Path, process: subprocess.Popen[bytes]) -> str:
    """The address of the first tab's debugger."""
    until_s = time.monotonic() + START_LIMIT_S
    file = folder / "DevToolsActivePort"
    while not (file.is_file() and "\n" in file.read_text()):
        assert process.poll() is None, (folder / "chromium.log").read_text("utf-8", "replace")
        assert time.monotonic() < until_s, "the browser does not start"
        time.sleep(0.05)
    port = file.read_text().splitlines()[0]
    tabs = httpx.get(f"http://127.0.0.1:{port}/json/list", trust_env=False).json()
    return str(next(tab for tab in tabs if tab["type"] == "page")["webSocketDebuggerUrl"])
