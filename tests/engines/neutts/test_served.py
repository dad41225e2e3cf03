"""A server around a tiny random backbone and codec, over HTTP and WebSocket."""

from __future__ import annotations

import base64
import io
import json
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

from engines.served import PATIENCE_S, SPEECH, Served
from vivavoce.audio.join import TAIL_MS
from vivavoce.engines.neutts.voices import ReferenceVoice, cloned_voice
from vivavoce.settings import Settings

NEEDED = ("llama_cpp", "gguf", "onnx", "onnxruntime", "piper")
if any(find_spec(name) is None for name in NEEDED):
    pytest.skip("the extra 'neutts' is not installed", allow_module_level=True)

CLONES = find_spec("torch") is not None
HELLO = {"input": "Hello there.", "seed": 1, "response_format": "pcm"}
HALF_S = 24_000
MOST_BYTES = 2 * (25 * 480 + int(TAIL_MS * 24))
"""Of 25 codes, and the silence after the last clause."""


class NeuTTSServed(Served):
    def __init__(self, folder: Path, **more: Any) -> None:
        super().__init__(
            Settings(
                engine="neutts",
                model_id=str(folder / "backbone.gguf"),
                neutts=options(folder) | more,
                port=0,
                data_dir=folder / "data",
                playback="null",
                output_dir=folder / "spoken",
            )
        )

    def idle(self) -> bool:
        return bool(self.service.admission.running == 0 and not self.service.engine._speakings)


def options(folder: Path) -> dict[str, Any]:
    encoder = folder / "encoder.bin"
    return {
        "encoder_repo": str(encoder) if encoder.exists() else "",
        "codec_repo": str(folder / "codec.onnx"),
        "voices_dir": str(folder / "voices"),
        "prune": "false",
        "threads": 1,
        "batch_threads": 1,
        "codec_threads": 1,
    }


def make_tiny(folder: Path) -> None:
    """Backbone, codec, and one voice."""
    from vivavoce.testing.random_gguf import make_random_gguf
    from vivavoce.testing.random_neucodec import make_random_codec

    backbone = folder / "backbone.gguf"
    make_random_gguf("neutts-nano", backbone, small=True, quantization="Q4_0", end_every=60)
    make_random_codec(folder / "codec.onnx", tiny=True)
    if CLONES:
        from vivavoce.testing.random_encoder import make_random_encoder

        make_random_encoder(folder / "encoder.bin", "distilled", tiny=True)
    (folder / "voices").mkdir()
    np.save(folder / "voices" / "someone.npy", np.arange(50) * 100)
    (folder / "voices" / "someone.txt").write_text("What was said.")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NeuTTSServed]:
    folder = tmp_path_factory.mktemp("served")
    make_tiny(folder)
    server = NeuTTSServed(folder)
    server.start()
    yield server
    until_s = time.monotonic() + PATIENCE_S
    while not server.idle() and time.monotonic() < until_s:
        time.sleep(0.01)
    assert server.idle()
    server.stop()


def spoken(served: NeuTTSServed, body: dict[str, Any]) -> bytes:
    """Empty where it is broken off, as a text that never ends is."""
    with suppress(httpx.RemoteProtocolError):
        answer = served.client.post(SPEECH, json=body)
        return answer.content if answer.status_code == 200 else b""
    return b""


def seed_that_ends(served: NeuTTSServed, **fields: Any) -> dict[str, Any]:
    """When a random model stops is chance, and one that does not is an error: look for one."""
    for seed in range(20):
        body = HELLO | {"seed": seed} | fields
        if spoken(served, body):
            return body
    raise AssertionError("no seed ends")


@pytest.mark.skipif(not CLONES, reason="the extra 'neutts-torch' is not installed")
def test_health_tells_where_the_parts_run(tmp_path: Path) -> None:
    from vivavoce.testing.random_neucodec import make_random_codec

    make_tiny(tmp_path)
    codec = make_random_codec(tmp_path / "codec.safetensors", tiny=True)
    server = NeuTTSServed(tmp_path, codec_repo=str(codec), codec_runtime="torch")
    server.start()
    try:
        health = server.client.get("/health").json()
        assert health["devices"] == dict.fromkeys(("backbone", "codec", "encoder"), "cpu")
        answer = server.client.post(SPEECH, json=HELLO | {"options": {"max_codes": 25}})
        assert answer.status_code == 200 and 0 < len(answer.content) <= MOST_BYTES
    finally:
        server.stop()


def test_a_request_may_say_how_many_codes_it_takes(served: Served) -> None:
    sound = served.client.post(SPEECH, json=HELLO | {"options": {"max_codes": 25}})
    assert sound.status_code == 200
    assert 0 < len(sound.content) <= MOST_BYTES


def test_it_speaks_in_every_openai_voice_and_format(served: Served) -> None:
    body = seed_that_ends(served)
    for voice in ("alloy", "someone"):
        answer = served.client.post(SPEECH, json=body | {"voice": voice, "response_format": "wav"})
        assert answer.status_code == 200, answer.text
        with wave.open(io.BytesIO(answer.content)) as sound:
            assert sound.getframerate() == 24_000 and sound.getnframes() > 0
    for encoding in ("mp3", "opus", "aac", "flac", "ulaw", "alaw", "ogg"):
        answer = served.client.post(SPEECH, json=body | {"response_format": encoding})
        assert answer.status_code == 200 and len(answer.content) > 100, answer.text


def test_the_same_seed_gives_the_same_sound_in_company(served: Served) -> None:
    served.client.post("/cache/clear")
    body = seed_that_ends(served)
    alone = served.client.post(SPEECH, json=body).content
    served.client.post("/cache/clear")
    others = [HELLO | {"input": f"Caller number {n}.", "seed": n} for n in (11, 12, 13)]
    with ThreadPoolExecutor(4) as callers:
        answers = list(callers.map(lambda b: spoken(served, b), [body, *others]))
    assert answers[0] == alone


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


def test_every_stream_speaks_the_same(served: Served) -> None:
    body = seed_that_ends(served)
    whole = served.client.post(SPEECH, json=body).content
    plain = {name: body[name] for name in ("input", "seed")}
    served.client.post("/cache/clear")
    bare = served.client.post(f"{SPEECH}/stream/pcm", json=plain)
    assert (bare.status_code, bare.content) == (200, whole)
    lines = served.client.post(f"{SPEECH}/stream", json=plain).text.split("\n")
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert data[-1] == "[DONE]"
    assert b"".join(base64.b64decode(each) for each in data[1:-1]) == whole
    events = served.client.post(SPEECH, json=body | {"stream_format": "sse"}).text.split("\n")
    told = [json.loads(line[6:]) for line in events if line.startswith("data: ")]
    assert told[-1]["type"] == "speech.audio.done"
    assert b"".join(base64.b64decode(each["audio"]) for each in told[:-1]) == whole


def test_voices_and_models_are_listed(served: Served) -> None:
    voices = served.client.get("/v1/audio/voices").json()["voices"]
    assert "someone" in [voice["id"] for voice in voices]
    assert served.client.get("/v1/models").json()["data"]
    assert served.client.get("/v1/audio/models").json()["models"]
    assert "tts_requests_total" in served.client.get("/metrics").text


def test_it_plays_on_the_server_and_writes_a_file(served: Served) -> None:
    body = seed_that_ends(served)
    plain = {name: body[name] for name in ("input", "seed")}
    played = served.client.post("/v1/audio/play", json=plain | {"wait": "played"})
    assert played.json()["state"] == "played" and played.json()["audio_s"] > 0
    served.client.post("/v1/audio/play/stop")
    for seconds in range(20):  # without a seed of its own it may run away
        answer = served.client.post("/", json={"text": body["input"] + "!" * seconds})
        if answer.status_code == 200:
            break
    assert answer.json()["output"] == "tts_output.wav"
    assert (served.settings.output_dir / "tts_output.wav").stat().st_size > 1_000
    served.client.post("/v1/audio/play/stop")


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
        ({"input": "<|speech_1|>"}, ""),
        ({"options": {"emotion": "happy"}}, "emotion"),
        ({"options": {"nothing": 1}}, "nothing"),
        ({"voice": "someone", "model": "neutts-2e-of-another-house"}, "model"),
    ],
)
def test_what_is_refused_takes_no_slot(
    served: NeuTTSServed, fields: dict[str, Any], said: str
) -> None:
    answer = served.client.post(SPEECH, json=HELLO | fields)
    assert answer.status_code in (400, 404) and said in answer.text
    assert served.idle()


def test_a_model_that_ends_at_once_is_an_error_and_frees_the_slot(served: Served) -> None:
    """END follows every sixtieth code of this model."""
    state = ReferenceVoice(np.array([7, 60], np.int32), "What was said.", "en")
    served.service.voices.save("ending", cloned_voice(state, "en"))
    answer = served.client.post(SPEECH, json=HELLO | {"voice": "ending"})
    assert answer.status_code == 500 and answer.json()["error"]["code"] == "engine_error"
    assert served.idle()
    assert spoken(served, seed_that_ends(served))
    assert served.client.delete("/v1/audio/voices/ending").status_code in (200, 204)


def test_a_voice_too_long_for_the_context_is_refused(served: Served) -> None:
    state = ReferenceVoice(np.zeros(2100, np.int32), "Far too long.", "en")
    served.service.voices.save("long", cloned_voice(state, "en"))
    answer = served.client.post(SPEECH, json=HELLO | {"voice": "long"})
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "context_overflow"
    assert served.client.delete("/v1/audio/voices/long").status_code in (200, 204)


def test_a_saved_voice_speaks_after_a_restart(tmp_path: Path) -> None:
    make_tiny(tmp_path)
    sounds = []
    for start in range(2):
        server = NeuTTSServed(tmp_path)
        server.start()
        if not start:
            state = ReferenceVoice(np.arange(60, dtype=np.int32), "Something else.", "en")
            server.service.voices.save("narrator", cloned_voice(state, "en"))
            body = seed_that_ends(server, voice="narrator")
        assert "narrator" in server.client.get("/v1/info").json()["voices"]
        sounds.append(spoken(server, body))
        server.stop()
    assert sounds[0] == sounds[1] != b""


def recording() -> bytes:
    """Two seconds of noise."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, 24_000, 0, "NONE", ""))
        noise = np.random.default_rng(0).standard_normal(48_000) * 3_000
        sound.writeframes(noise.astype("<i2").tobytes())
    return file.getvalue()


@pytest.mark.skipif(not CLONES, reason="the extra 'neutts-torch' is not installed")
def test_a_recording_becomes_a_voice_that_is_kept(served: Served) -> None:
    files = {"audio_sample": ("a.wav", recording())}
    form = {"name": "caller", "ref_text": "What the caller said."}
    saved = served.client.post("/v1/audio/voices", data=form, files=files)
    assert saved.status_code in (200, 201), saved.text
    assert saved.json()["id"] == "caller"
    assert seed_that_ends(served, voice="caller")
    assert served.client.delete("/v1/audio/voices/caller").status_code in (200, 204)


@pytest.mark.skipif(not CLONES, reason="the extra 'neutts-torch' is not installed")
def test_a_request_may_bring_its_voice(served: Served) -> None:
    form = {"input": "Hi.", "ref_text": "What the caller said.", "response_format": "wav"}
    answers = []
    for seed in range(20):
        fields = form | {"seed": str(seed)}
        with suppress(httpx.RemoteProtocolError):
            answers.append(
                served.client.post(
                    f"{SPEECH}/clone", data=fields, files={"file": ("a.wav", recording())}
                )
            )
            if answers[-1].status_code == 200:
                break
    assert answers[-1].status_code == 200, answers[-1].text
    assert answers[-1].content[:4] == b"RIFF"


@pytest.mark.skipif(not CLONES, reason="the extra 'neutts-torch' is not installed")
def test_cloning_without_a_transcript_is_refused(served: Served) -> None:
    answer = served.client.post(
        f"{SPEECH}/clone", data={"input": "Hi."}, files={"file": ("a.wav", recording())}
    )
    assert answer.status_code == 400 and "transcript" in answer.text
    assert served.idle()


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
