"""A server around a tiny random backbone and codec, over HTTP and WebSocket."""

from __future__ import annotations

import io
import json
import threading
import time
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.sync.client import connect

from vivavoce.engines.neutts.voices import ReferenceVoice, cloned_voice
from vivavoce.serving.server import DrainingServer, build_service, listen
from vivavoce.settings import Settings

NEEDED = ("llama_cpp", "gguf", "onnx", "onnxruntime", "piper")
if any(find_spec(name) is None for name in NEEDED):
    pytest.skip("the extra 'neutts' is not installed", allow_module_level=True)

PATIENCE_S = 60.0
SPEECH = "/v1/audio/speech"
HELLO = {"input": "Hello there.", "seed": 1, "response_format": "pcm"}
HALF_S = 24_000


class Served:
    """A running server and a client of it."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(
            engine="neutts",
            model_id=str(folder / "backbone.gguf"),
            neutts=options(folder),
            port=0,
            data_dir=folder / "data",
        )
        self.service = build_service(self.settings)
        self.server = DrainingServer(self.settings, self.service)
        self.listener = listen(self.settings)
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [self.listener]}, daemon=True
        )
        self.client = httpx.Client(
            base_url=f"http://{self.address}", timeout=PATIENCE_S, trust_env=False
        )

    def start(self) -> None:
        self.thread.start()
        until_s = time.monotonic() + PATIENCE_S
        while not (self.server.started and self.service.lifecycle.ready):
            assert time.monotonic() < until_s and self.service.lifecycle.state != "failed"
            time.sleep(0.01)

    def stop(self) -> None:
        self.client.close()
        self.server.should_exit = True
        self.thread.join(PATIENCE_S)
        self.listener.close()

    def idle(self) -> bool:
        return bool(self.service.admission.running == 0 and not self.service.engine._speakings)


def options(folder: Path) -> dict[str, Any]:
    return {
        "codec_repo": str(folder / "codec.onnx"),
        "voices_dir": str(folder / "voices"),
        "prune": "false",
        "cache_precision": "float32",
        "threads": 1,
        "batch_threads": 1,
        "codec_threads": 1,
    }


def make_tiny(folder: Path) -> None:
    """Backbone, codec, and one voice."""
    from vivavoce.engines.neutts.codec.random_codec import make_random_codec
    from vivavoce.engines.neutts.gguf.random_gguf import make_random_gguf

    backbone = folder / "backbone.gguf"
    make_random_gguf("neutts-nano", backbone, small=True, quantisation="F32", end_every=60)
    make_random_codec(folder / "codec.onnx", tiny=True)
    (folder / "voices").mkdir()
    np.save(folder / "voices" / "someone.npy", np.arange(50) * 100)
    (folder / "voices" / "someone.txt").write_text("What was said.")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    make_tiny(folder)
    server = Served(folder)
    server.start()
    yield server
    until_s = time.monotonic() + PATIENCE_S
    while not server.idle() and time.monotonic() < until_s:
        time.sleep(0.01)
    assert server.idle()
    server.stop()


def spoken(served: Served, body: dict[str, Any]) -> bytes:
    """Empty where it is broken off, as a text that never ends is."""
    with suppress(httpx.RemoteProtocolError):
        answer = served.client.post(SPEECH, json=body)
        return answer.content if answer.status_code == 200 else b""
    return b""


def seed_that_ends(served: Served, **fields: Any) -> dict[str, Any]:
    """When a random model stops is chance, and one that does not is an error: look for one."""
    for seed in range(20):
        body = HELLO | {"seed": seed} | fields
        if spoken(served, body):
            return body
    raise AssertionError("no seed ends")


def test_it_speaks_in_every_openai_voice_and_format(served: Served) -> None:
    body = seed_that_ends(served)
    for voice in ("alloy", "someone"):
        answer = served.client.post(SPEECH, json=body | {"voice": voice, "response_format": "wav"})
        assert answer.status_code == 200, answer.text
        with wave.open(io.BytesIO(answer.content)) as sound:
            assert sound.getframerate() == 24_000 and sound.getnframes() > 0
    for encoding in ("mp3", "opus", "flac", "ulaw"):
        answer = served.client.post(SPEECH, json=body | {"response_format": encoding})
        assert answer.status_code in (200, 400), answer.text


def test_the_same_seed_gives_the_same_sound_in_company(served: Served) -> None:
    served.client.post("/cache/clear")
    body = seed_that_ends(served)
    alone = served.client.post(SPEECH, json=body).content
    served.client.post("/cache/clear")
    others = [HELLO | {"input": f"Caller number {n}.", "seed": n} for n in (11, 12, 13)]
    with ThreadPoolExecutor(4) as callers:
        answers = list(callers.map(lambda b: spoken(served, b), [body, *others]))
    together = np.frombuffer(answers[0], "<i2").astype(np.int32)
    difference = together - np.frombuffer(alone, "<i2")[: len(together)]
    assert len(together) == len(alone) // 2 and np.abs(difference).max() <= 1


def test_it_speaks_over_a_websocket(served: Served) -> None:
    body = seed_that_ends(served)
    with connect(f"ws://{served.address}{SPEECH}/ws", proxy=None) as socket:
        socket.send(json.dumps({"input": body["input"], "seed": body["seed"]}))
        received, event = 0, ""
        while event not in ("done", "error"):
            message = socket.recv(timeout=PATIENCE_S)
            if isinstance(message, bytes):
                received += len(message)
            else:
                event = json.loads(message)["event"]
    assert event == "done" and received > 0


def test_health_and_info_tell_what_runs_where(served: Served) -> None:
    health = served.client.get("/health").json()
    assert health["status"] == "ok" and health["engine"] == "neutts" and not health["cuda"]
    assert health["devices"]["backbone"] == health["devices"]["codec"] == "cpu"
    info = served.client.get("/v1/info").json()
    assert info["languages"] == ["en"] and info["voices"] == ["someone"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"language": "de"}, "does not speak 'de'"),
        ({"language": "klingon"}, "language"),
        ({"voice": "nobody-here"}, "Unknown voice"),
        ({"input": " "}, ""),
    ],
)
def test_what_is_refused_takes_no_slot(served: Served, fields: dict[str, Any], said: str) -> None:
    answer = served.client.post(SPEECH, json=HELLO | fields)
    assert answer.status_code == 400 and said in answer.text
    assert served.idle()


def test_a_voice_too_long_for_the_context_is_refused(served: Served) -> None:
    state = ReferenceVoice(np.zeros(2100, np.int32), "Far too long.", "en")
    served.service.voices.save("long", cloned_voice(state, "en"))
    answer = served.client.post(SPEECH, json=HELLO | {"voice": "long"})
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "context_overflow"
    assert served.client.delete("/v1/audio/voices/long").status_code in (200, 204)


def test_a_saved_voice_speaks_after_a_restart(served: Served) -> None:
    state = ReferenceVoice(np.arange(60, dtype=np.int32), "Something else.", "en")
    served.service.voices.save("narrator", cloned_voice(state, "en"))
    served.client.post("/cache/clear")  # read it from the disk again
    assert "narrator" in served.client.get("/v1/info").json()["voices"]
    seed_that_ends(served, voice="narrator")
    assert served.client.delete("/v1/audio/voices/narrator").status_code in (200, 204)


def test_cloning_without_a_transcript_is_refused(served: Served) -> None:
    if not served.service.engine.info.capabilities.cloning:
        pytest.skip("the extra 'neutts-torch' is not installed")
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, 24_000, 0, "NONE", ""))
        noise = np.random.default_rng(0).standard_normal(48_000) * 3_000
        sound.writeframes(noise.astype("<i2").tobytes())
    answer = served.client.post(
        f"{SPEECH}/clone", data={"input": "Hi."}, files={"file": ("a.wav", file.getvalue())}
    )
    assert answer.status_code == 400 and "transcript" in answer.text


def test_a_caller_who_hangs_up_frees_the_slot(served: Served) -> None:
    long = "One sentence that goes on for quite some time before it ends at last. " * 5
    for reads in (0, 1, 3):
        with served.client.stream("POST", SPEECH, json=HELLO | {"input": long}) as answer:
            for _, _ in zip(range(reads), answer.iter_bytes(), strict=False):
                pass
        until_s = time.monotonic() + PATIENCE_S
        while not served.idle():
            assert time.monotonic() < until_s
            time.sleep(0.01)
