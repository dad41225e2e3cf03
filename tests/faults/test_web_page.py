"""Web pages in a real browser: a stranger's can neither speak nor save a voice, our own can."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faults import chromium
from faults.chromium import Page, browser
from faults.inprocess import InnerServer, serving_here
from vivavoce.audio.encode import wav_file

pytestmark = [
    pytest.mark.skipif(
        chromium.program() is None, reason="Chromium is not installed (Debian's package chromium)"
    ),
    pytest.mark.timeout(180),
]

EVIL = "evil.example"
KEY = "a key of the server"

ATTACK = """(async (url) => {
  const word = '{"input": "Hi you.", "response_format": "pcm"}';
  const form = (fields) => {
    const made = new FormData();
    for (const [name, value] of Object.entries(fields)) made.append(name, value);
    made.append("file", new Blob([new Uint8Array(RECORDING)], {type: "audio/wav"}), "a.wav");
    return made;
  };
  const heard = {};
  const attempt = async (name, path, how) => {
    try {
      const answer = await fetch(url + path, how);
      heard[name] = answer.type === "opaque" ? "opaque" : answer.status;
    } catch (error) {
      heard[name] = "refused";
    }
  };
  const post = {method: "POST"};
  const blind = {method: "POST", mode: "no-cors"};
  await attempt("blob", "/v1/audio/speech", {...blind, body: new Blob([word])});
  await attempt("text", "/v1/audio/speech", {...blind, body: word});
  await attempt("json", "/v1/audio/speech",
    {...post, body: word, headers: {"Content-Type": "application/json"}});
  await attempt("voice", "/v1/audio/voices", {...blind, body: form({name: "eve"})});
  await attempt("voice, seen", "/v1/audio/voices", {...post, body: form({name: "eve2"})});
  await attempt("clone", "/v1/audio/speech/clone", {...blind, body: form({input: "Hi you."})});
  await attempt("clear", "/cache/clear", blind);
  await attempt("delete", "/v1/audio/voices/kept", {method: "DELETE"});
  await attempt("read", "/v1/audio/voices", {});
  heard.socket = await new Promise((resolve) => {
    const socket = new WebSocket(url.replace("http", "ws") + "/v1/audio/speech/ws");
    socket.onopen = () => socket.send(word);
    socket.onmessage = () => { resolve("spoken"); socket.close(); };
    socket.onerror = () => resolve("refused");
  });
  return heard;
})"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """For it, ``evil.example`` is this machine."""
    rules = f"--host-resolver-rules=MAP {EVIL} 127.0.0.1"
    with browser(tmp_path_factory.mktemp("browser"), rules) as tab:
        yield tab


@pytest.fixture(scope="module")
def strangers() -> Iterator[str]:
    """The address of a site that is not ours."""

    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>free prizes</title>")

        def log_message(self, *args: object) -> None:
            pass

    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=site.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{site.server_address[1]}"
    site.shutdown()
    thread.join()
    site.server_close()


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of a voice-like tone."""
    times = np.arange(48_000) / 24_000
    tone = 0.3 * np.sin(times * 2 * np.pi * 180) * (1 + 0.5 * np.sin(times * 2 * np.pi * 3))
    file = tmp_path_factory.mktemp("recording") / "voice.wav"
    file.write_bytes(wav_file(tone.astype(np.float32), 24_000))
    return file


def attacked(page: Page, server_url: str, recording: Path) -> dict[str, Any]:
    """What the page that is open has got by asking that server for everything."""
    script = ATTACK.replace("RECORDING", json.dumps(list(recording.read_bytes())))
    return dict(page.run(f"{script}({json.dumps(server_url)})"))


@contextmanager
def desk(folder: Path, **settings: Any) -> Iterator[tuple[InnerServer, Any]]:
    """A server on a desk, and what it has done so far as something to compare."""
    with serving_here(folder, audio_cache_max=64, **settings) as live:
        yield live, lambda: (live.engine.steps, len(live.service.voices.saved()))


def test_a_page_of_another_site_can_neither_speak_nor_save_a_voice(
    page: Page, strangers: str, recording: Path, tmp_path: Path
) -> None:
    page.visit(strangers)
    with desk(tmp_path) as (server, done):
        before = done()
        heard = attacked(page, server.url, recording)
        assert done() == before
    blind = {name for name, got in heard.items() if got == "opaque"}
    assert blind == {"blob", "text", "voice", "clone", "clear"}
    assert {got for name, got in heard.items() if name not in blind} == {"refused"}


def test_the_same_page_can_where_the_server_is_told_so(
    page: Page, strangers: str, recording: Path, tmp_path: Path
) -> None:
    """So what is refused above would have worked."""
    page.visit(strangers)
    with desk(tmp_path, cors_origins=strangers) as (server, done):
        heard = attacked(page, server.url, recording)
        steps, saved = done()
    assert heard["socket"] == "spoken"
    assert (heard["json"], heard["voice, seen"], heard["read"]) == (200, 200, 200)
    assert saved == 2
    assert steps > 0


def test_a_name_that_was_pointed_at_this_machine_opens_nothing(
    page: Page, recording: Path, tmp_path: Path
) -> None:
    """DNS rebinding: the page is of the server's own origin, by a name that is not the server's."""
    with desk(tmp_path) as (server, done):
        before, url = done(), f"http://{EVIL}:{server.port}"
        page.visit(f"{url}/v1/audio/voices")
        heard = attacked(page, url, recording)
        assert "unknown_host" in page.run("document.body.innerText")
        assert done() == before
    assert heard.pop("socket") == "refused"
    assert set(heard.values()) == {421}


def test_the_servers_own_page_speaks_and_saves_a_voice(
    page: Page, recording: Path, tmp_path: Path
) -> None:
    with desk(tmp_path) as (server, _):
        page.visit(f"{server.url}/docs")
        speaks(page)
        saves(page, recording)
        assert [voice.id for voice in server.service.voices.saved()] == ["ann"]
    assert {url for url in page.requested if not url.startswith(("data:", "blob:"))} == {
        f"{server.url}{path}"
        for path in ("/docs", "/openapi.json", "/v1/audio/speech", "/v1/audio/voices")
    }
    assert page.complaints == []


def test_where_a_key_is_needed_the_page_asks_for_it(page: Page, tmp_path: Path) -> None:
    with desk(tmp_path, api_keys=KEY) as (server, _):
        page.visit(f"{server.url}/docs")
        page.wait_for("!document.getElementById('door').hidden")
        enter(page, "a wrong one")
        page.wait_for("document.getElementById('refused').textContent.includes('401')")
        enter(page, KEY)
        speaks(page)


def enter(page: Page, key: str) -> None:
    page.run(f"document.getElementById('key').value = {json.dumps(key)}")
    page.run("document.querySelector('#door button').click()")


def operation(name: str) -> str:
    """A script for the box of one operation, once it is there."""
    return f"document.getElementById({json.dumps(name)})"


def speaks(page: Page) -> None:
    box = operation("post /v1/audio/speech")
    page.wait_for(f"Boolean({box})")
    page.run(f"{box}.open = true")
    page.run(f"{box}.querySelector('form button').click()")
    assert page.wait_for(f"Boolean({box}.querySelector('audio'))")
    # The sound is of use: the browser decodes it.
    assert page.wait_for(f"{box}.querySelector('audio').duration > 0.2")


def saves(page: Page, recording: Path) -> None:
    box = operation("post /v1/audio/voices")
    page.run(f"{box}.open = true")
    page.run(f"{box}.querySelector('[name=name]').value = 'ann'")
    page.run(f"{box}.querySelector('[type=file]').id = 'upload'")
    page.put_file("#upload", recording)
    page.run(f"{box}.querySelector('form button').click()")
    page.wait_for(f"{box}.querySelector('.result').textContent.includes('audio.voice')")
