"""The card and the weights, as ``/health``, ``/v1/info`` and ``/metrics`` tell them."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import pytest

from quality.live import metric
from vivavoce.engines.base import EngineInfo
from vivavoce.serving.hardware import hardware_fields, plain
from vivavoce.types import Gpu, WeightsFormat

MIB = 2**20
CARD = {
    "gpu_name": "Planted 4060",
    "gpu_allocated_mb": 2_100,
    "gpu_reserved_mb": 2_304,
    "gpu_free_mb": 5_000,
    "gpu_total_mb": 8_188,
}


@pytest.mark.parametrize("path", ["/health", "/v1/info"])
def test_a_card_is_told_in_numbers(serve, path: str) -> None:
    told = serve(fake={"gpu": "Planted 4060"}).client.get(path).json()
    assert {name: told[name] for name in CARD} == CARD
    assert (told["quantize"], told["quantize_why"]) == ("none", "there are no weights")
    assert told["weights"]["tones"]["precision"] == "none"
    assert told["device"] == "cuda:0"


@pytest.mark.parametrize("path", ["/health", "/v1/info"])
def test_without_a_card_the_keys_are_there_and_empty(server, path: str) -> None:
    told = server.client.get(path).json()
    assert {name: told[name] for name in CARD} == dict.fromkeys(CARD)


def test_metrics_have_its_memory(serve) -> None:
    text = serve(fake={"gpu": "Planted 4060"}).client.get("/metrics").text
    sizes = {"allocated": 2_100, "reserved": 2_304, "free": 5_000, "total": 8_188}
    for kind, size_mb in sizes.items():
        assert metric(text, "tts_gpu_memory_bytes", kind=kind) == size_mb * MIB


def test_metrics_without_a_card_name_none(server) -> None:
    assert "tts_gpu_memory_bytes{" not in server.client.get("/metrics").text


def test_a_card_that_cannot_be_asked_does_not_fail_a_probe(serve) -> None:
    server = serve(fake={"gpu": "Planted 4060", "fault": "gpu:raise"})
    health = server.client.get("/health")
    assert (health.status_code, health.json()["gpu_name"]) == (200, None)
    assert server.client.get("/metrics").status_code == 200


def test_without_a_key_nobody_hears_of_the_card(serve) -> None:
    server = serve(fake={"gpu": "Planted 4060"}, api_keys="a key of the server")
    assert server.client.get("/health").json() == {"status": "ok", "state": "ready"}


def test_kinds_that_nobody_tells_are_left_out() -> None:
    weights = MappingProxyType({"voice": WeightsFormat("float32", "as published")})
    info = EngineInfo("any", "model", 24_000, weights=weights)
    told = hardware_fields(info, Gpu("Some card", total_bytes=8_192 * MIB))
    assert told["gpu_total_mb"] == 8_192 and "gpu_allocated_mb" not in told
    assert told["quantize"] == "float32"


def test_details_keep_their_types() -> None:
    details = {"rows": 4, "loaded": True, "devices": {"codec": "cpu"}, "chunks": (4, 8), 1: None}
    assert plain(details | {"file": Path("a.gguf"), "share": 0.5}) == {
        "rows": 4, "loaded": True, "devices": {"codec": "cpu"}, "chunks": [4, 8], "1": None,
        "file": "a.gguf", "share": 0.5,
    }  # fmt: skip
