"""The description says what is really answered."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import get_args

import pytest

from vivavoce.audio.formats import ENCODINGS
from vivavoce.audio.playback import NullPlayer
from vivavoce.serving import loudspeaker
from vivavoce.serving.body import ResponseFormat

CONFIGURATION = """
[checks.positive_data_acceptance]
# What can be spoken, decoded or found is more than a schema can say: those answers are 400.
expected-statuses = ["2xx", 400, 401, 403, 404, 409, 429, "5xx"]
"""
PATHS = {
    "/", "/livez", "/readyz", "/health", "/metrics", "/cache/clear", "/v1/info", "/v1/models",
    "/v1/models/{model_id}", "/v1/audio/models", "/v1/audio/voices",
    "/v1/audio/voices/{voice_id}", "/v1/audio/speech", "/v1/audio/speech/stream",
    "/v1/audio/speech/stream/pcm", "/v1/audio/speech/clone", "/v1/audio/play",
    "/v1/audio/play/skip", "/v1/audio/play/stop",
    "/v1/usage", "/v1/client_tokens",
}  # fmt: skip


def test_every_route_is_described_with_its_answers(server) -> None:
    schema = server.client.get("/openapi.json").json()
    assert set(schema["paths"]) == PATHS
    speech = schema["paths"]["/v1/audio/speech"]["post"]
    assert set(speech["responses"]) >= {"200", "400", "404", "413", "429", "500", "503", "504"}
    assert "422" not in str(schema["paths"])
    content = speech["responses"]["200"]["content"]
    assert {"audio/mpeg", "audio/pcm", "text/event-stream"} <= set(content)
    fields = schema["components"]["schemas"]["OpenAISpeechBody"]["properties"]
    assert fields["input"]["maxLength"] == 20_000
    assert fields["sample_rate"]["anyOf"][0]["minimum"] == 8_000
    assert "securitySchemes" not in schema["components"]


def test_the_formats_offered_are_those_there_are() -> None:
    assert set(get_args(ResponseFormat)) == set(ENCODINGS)


def test_keys_are_described_where_they_are_needed(serve) -> None:
    server = serve(api_keys=("k",))
    schema = server.client.get("/openapi.json", headers={"X-API-Key": "k"}).json()
    assert set(schema["components"]["securitySchemes"]) == {"bearer", "header"}
    assert "401" in schema["paths"]["/v1/audio/speech"]["post"]["responses"]
    assert "security" not in schema["paths"]["/livez"]["get"]
    assert "security" not in schema["paths"]["/"]["get"]
    assert "security" in schema["paths"]["/"]["post"]


@pytest.mark.slow
@pytest.mark.timeout(660)
@pytest.mark.parametrize(("playback", "paths"), [("off", "."), ("null", "^/(v1/audio/play.*)?$")])
def test_schemathesis_finds_nothing(
    serve, tmp_path: Path, playback: str, paths: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loudspeaker, "NullPlayer", partial(NullPlayer, real_time=False))
    server = serve(max_input_chars=200, playback=playback, output_dir=tmp_path / "out")
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    found = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            "run", f"{server.url}/openapi.json",
            "--checks", "all", "--max-examples", "20", "--seed", "1", "--no-color",
            "--include-path-regex", paths,
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout[-4_000:]
    assert server.idle
