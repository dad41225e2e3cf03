"""Alive, ready, and what is told about it."""

from __future__ import annotations

import json
import logging
from contextlib import suppress

import httpx
import pytest
from tests.serving.conftest import settle

from vivavoce.serving.logs import JsonFormatter, TextFormatter, request_id
from vivavoce.serving.server import DrainingServer

HEALTH_KEYS = {
    "status", "model_loaded", "model_id", "cuda", "queue_depth", "max_queue_depth", "voices",
    "audio_cache_size", "audio_cache_max", "voice_cache_size", "voice_cache_max",
    "voice_cache_hits", "device", "engine", "state", "version",
}  # fmt: skip


def test_health_has_the_keys_that_dashboards_read(server) -> None:
    health = server.client.get("/health")
    assert health.status_code == 200
    assert set(health.json()) >= HEALTH_KEYS
    assert health.json()["voices"] == ["alto", "tenor", "bass"]
    assert server.client.get("/").json()["name"] == "vivavoce"
    info = server.client.get("/v1/info").json()
    assert (info["engine"], info["sample_rate"]) == ("fake", 24_000)


def test_without_a_key_health_tells_the_state_alone(serve) -> None:
    server = serve(api_keys="a key of the server")
    for headers in ({}, {"X-API-Key": "a wrong one"}):
        health = server.client.get("/health", headers=headers)
        assert (health.status_code, health.json()) == (200, {"status": "ok", "state": "ready"})
    whole = server.client.get("/health", headers={"X-API-Key": "a key of the server"}).json()
    assert set(whole) >= HEALTH_KEYS
    for path in ("/livez", "/readyz"):
        assert not {"alto", "fake"} & set(server.client.get(path).text.replace('"', " ").split())


def test_while_loading_it_lives_and_says_when_to_come_back(serve) -> None:
    server = serve(wait=False, fake={"load_ms": 1_500.0})
    assert server.client.get("/livez").status_code == 200
    assert server.client.get("/readyz").status_code == 503
    assert server.client.get("/health").status_code == 503
    refused = server.speak()
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "starting"
    assert refused.headers["retry-after"] == "1"
    assert settle(lambda: server.client.get("/readyz").status_code == 200)
    assert server.speak().status_code == 200


def test_a_failed_start_is_told_and_stays_told(serve, monkeypatch) -> None:
    from vivavoce.errors import ModelFileError
    from vivavoce.testing.fake_engine import FakeEngine

    def fail(self) -> None:
        raise ModelFileError("The model file is damaged.")

    monkeypatch.setattr(FakeEngine, "load", fail)
    # The application alone: our own server ends with it.
    monkeypatch.setattr(DrainingServer, "_give_up", lambda server, error: None)
    server = serve(wait=False)
    assert settle(lambda: server.client.get("/livez").status_code == 503)
    ready = server.client.get("/readyz")
    assert ready.status_code == 503
    assert "damaged" in ready.json()["reason"]
    assert server.speak().json()["error"]["code"] == "engine_failed"


def test_a_broken_engine_answers_503_and_stays_up(serve) -> None:
    server = serve()
    broken = server.speak(input="breakword")
    assert broken.status_code == 503
    assert server.client.get("/livez").status_code == 503
    assert server.client.get("/readyz").status_code == 503
    assert server.speak().status_code == 503


def test_a_stuck_engine_is_not_alive(serve, monkeypatch) -> None:
    # Else it would be given up at twice the limit, and not come back.
    monkeypatch.setattr("vivavoce.speech.lifecycle.GIVEN_UP", 1e9)
    server = serve(max_step_s=0.2, fake={"fault": "step:hang~slowword"})
    raw = server.raw_post("/v1/audio/speech", {"input": "slowword"})
    assert settle(lambda: server.client.get("/livez").status_code == 503)
    server.engine.faults.let_go()
    raw.close()
    assert settle(lambda: server.client.get("/livez").status_code == 200)


def test_an_idle_engine_is_unloaded_and_loads_again(serve) -> None:
    server = serve(idle_timeout_s=0.1, audio_cache_max=0)
    assert server.speak().status_code == 200
    assert settle(lambda: not server.engine.loaded)
    assert server.client.get("/readyz").status_code == 200
    assert server.client.get("/health").json()["model_loaded"] is False
    assert server.speak().status_code == 200


def test_without_preload_the_first_request_loads(serve) -> None:
    server = serve(wait=False, preload_model=False)
    assert settle(lambda: server.service.lifecycle.state == "unloaded")
    ready = server.client.get("/readyz")
    assert (ready.status_code, ready.json()["state"]) == (200, "unloaded")
    assert not server.engine.loaded
    assert server.speak().status_code == 200
    assert server.client.get("/readyz").status_code == 200


def test_caches_can_be_cleared(serve) -> None:
    server = serve()
    server.speak()
    assert server.client.post("/cache/clear").json()["audio_cleared"] == 1
    assert server.client.post("/cache/clear").json()["audio_cleared"] == 0


def test_metrics_count_outcomes_and_times(serve) -> None:
    server = serve()
    server.speak(stream_mode="sentence", input="Hello there. And again.")
    server.speak("/v1/audio/speech/stream/pcm", voice="nobody")
    server.speak(speed="x")
    answer = server.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    text = answer.text
    for line in (
        'tts_requests_total{outcome="ok",transport="http"} 1.0',
        'tts_requests_total{outcome="invalid",transport="pcm"} 1.0',
        'tts_requests_total{outcome="invalid",transport="http"} 1.0',
        "tts_requests_running 0.0",
        "tts_requests_waiting 0.0",
        "tts_time_to_first_audio_seconds_count 1.0",
        "tts_queue_seconds_count 1.0",
    ):
        assert line in text
    for name in (
        "tts_build_info", "tts_chunk_gap_seconds", "tts_playback_underruns_total",
        "tts_audio_seconds_total", "tts_input_characters_total", "tts_step_seconds",
        "tts_batch_size", "tts_realtime_factor", "tts_cancel_to_release_seconds",
    ):  # fmt: skip
        assert name in text


def test_metrics_can_be_switched_off(serve) -> None:
    assert serve(metrics=False).client.get("/metrics").status_code == 404


def test_a_request_that_takes_too_long_is_a_504(serve) -> None:
    server = serve(request_timeout_s=0.3, fake={"slow_ms": 900.0})
    late = server.speak(input="slowword")
    assert late.status_code == 504
    assert late.json()["error"]["code"] == "deadline_exceeded"
    assert server.idle

    def speaks_again() -> bool:
        # The engine may still be in the long step, and then this one is late, too.
        with suppress(httpx.RemoteProtocolError):
            return bool(server.speak().status_code == 200)
        return False

    assert settle(speaks_again)


def test_the_wait_for_a_slot_counts_towards_the_timeout(serve) -> None:
    server = serve(request_timeout_s=0.3, fake={"capacity": 1})
    admission = server.service.admission
    admission._running = 1  # somebody holds the slot for good
    answer = server.speak(input="Hi you.")
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "deadline_exceeded"
    assert (admission.running, admission.waiting) == (1, 0)
    admission._running = 0
    assert 'outcome="deadline"' in server.client.get("/metrics").text


def test_a_timeout_after_the_first_sound_cuts_the_body(serve) -> None:
    import httpx

    server = serve(request_timeout_s=0.4, fake={"paced": True})
    with pytest.raises(httpx.RemoteProtocolError):
        server.speak(input="on and on " * 50)
    events = server.speak("/v1/audio/speech/stream", input="on and on " * 50)
    assert "event: error" in events.text
    assert settle(lambda: server.idle)


def test_a_slow_reader_ends_alone(serve) -> None:
    # More than the kernel's socket buffers take: 17 MB.
    options = {"sample_rate_hz": 48_000, "chunk_ms": 960.0}
    server = serve(stall_timeout_s=0.5, audio_cache_max=0, fake=options)
    text = "This goes on and on for a very long time indeed. " * 60
    body = {"input": text, "response_format": "pcm", "sample_rate": 48_000}
    reader = server.raw_post("/v1/audio/speech", body)
    assert settle(lambda: server.service.admission.running == 1)
    with server.socket(max_queue=1, close_timeout=0.1) as connection:
        connection.send(json.dumps({"input": text}))
        assert settle(lambda: server.service.admission.running == 2)
        assert server.speak().status_code == 200
        assert settle(lambda: server.idle)
    text = server.client.get("/metrics").text
    assert 'tts_requests_total{outcome="backpressure",transport="http"} 1.0' in text
    assert server.speak().status_code == 200
    reader.close()


def test_logs_are_structured_and_never_hold_the_text(serve, caplog) -> None:
    server = serve()
    secret = "Quetzalcoatl"
    with caplog.at_level(logging.INFO):
        server.speak(input=f"{secret} speaks.", foo=1)
        server.speak(input=f"{secret} speaks.", voice="nobody")
        server.speak(input=f"{secret} failword.", response_format="mp3", stream_format="sse")
    lines = [JsonFormatter().format(record) for record in caplog.records]
    assert not [line for line in lines if secret in line]
    spoken = [json.loads(line) for line in lines if '"spoken"' in line]
    assert spoken[0]["ignored"] == "foo"
    assert any(json.loads(line).get("status") == 400 for line in lines)


def test_log_lines_stay_lines() -> None:
    token = request_id.set("req_1")
    try:
        record = logging.makeLogRecord({"msg": "a\nb \ud800", "levelname": "INFO", "who": "x\ny"})
        record.request_id = request_id.get()
    finally:
        request_id.reset(token)
    text = TextFormatter().format(record)
    assert "\n" not in text
    assert text.endswith("who=x\\ny request_id=req_1")
    assert json.loads(JsonFormatter().format(record))["request_id"] == "req_1"
