"""Who may come in, and with how much."""

from __future__ import annotations

import pytest
from websockets.exceptions import InvalidStatus

from vivavoce.errors import SettingsError
from vivavoce.serving.server import check_bind, listen, run
from vivavoce.settings import Settings

OPEN = ["/", "/livez", "/readyz", "/health"]
LOCKED = ["/metrics", "/v1/models", "/v1/audio/voices", "/v1/info", "/openapi.json", "/docs"]


@pytest.fixture(scope="module")
def locked(tmp_path_factory, no_settings_around):
    from tests.serving.conftest import LiveServer

    data_dir = tmp_path_factory.mktemp("data")
    live = LiveServer(
        Settings(engine="fake", port=0, api_keys=("k1", "k\u00e4"), data_dir=data_dir)
    )
    live.start()
    yield live
    live.stop()


@pytest.mark.parametrize("path", OPEN)
def test_health_needs_no_key(locked, path) -> None:
    assert locked.client.get(path).status_code == 200


@pytest.mark.parametrize("path", LOCKED)
def test_everything_else_does(locked, path) -> None:
    refused = locked.client.get(path)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert refused.json()["error"]["type"] == "authentication_error"
    assert refused.headers["x-request-id"]
    assert locked.client.get(path, headers={"Authorization": "Bearer k1"}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer k1"}, 200),
        ({"Authorization": "bearer k1"}, 200),
        ({"X-API-Key": "k\u00e4".encode()}, 200),
        ({"X-API-Key": "k2"}, 401),
        ({"Authorization": "Basic k1"}, 401),
        ({"Authorization": "Bearer k1x"}, 401),
    ],
)
def test_keys(locked, headers, status) -> None:
    answer = locked.client.post("/v1/audio/speech", json={"input": "Hi you."}, headers=headers)
    assert answer.status_code == status


def test_a_key_in_the_query_opens_sockets_only(locked) -> None:
    assert locked.client.get("/v1/models?api_key=k1").status_code == 401
    with pytest.raises(InvalidStatus) as refused, locked.socket():
        pass
    assert refused.value.response.status_code == 401
    with locked.socket(additional_headers={"Authorization": "Bearer k1"}):
        pass
    from websockets.sync.client import connect

    url = f"ws://127.0.0.1:{locked.port}/v1/audio/speech/ws?api_key=k1"
    with connect(url, proxy=None):
        pass


def test_a_body_over_the_limit_is_refused_before_it_is_read(serve) -> None:
    server = serve(max_body_bytes=1_000, max_upload_bytes=5_000)
    big = {"input": "x" * 2_000}
    refused = server.client.post("/v1/audio/speech", json=big)
    assert refused.status_code == 413
    assert refused.json()["error"]["code"] == "body_too_large"
    assert refused.headers["connection"] == "close"
    pieces = (b"x" * 300 for _ in range(10))
    headers = {"Content-Type": "application/json"}
    chunked = server.client.post("/v1/audio/speech", content=pieces, headers=headers)
    assert chunked.status_code == 413
    files = {"audio_sample": b"x" * 6_000}
    upload = server.client.post("/v1/audio/voices", data={"name": "a"}, files=files)
    assert upload.status_code == 413
    smaller = {"audio_sample": b"x" * 2_000}
    assert server.client.post("/v1/audio/voices", data={"name": "a"}, files=smaller).json()[
        "error"
    ]["code"] == ("invalid_audio")
    assert server.speak().status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "example.org"])
def test_a_public_address_needs_a_key(host) -> None:
    with pytest.raises(SettingsError, match="VIVAVOCE_API_KEYS"):
        check_bind(Settings(host=host))
    check_bind(Settings(host=host, api_keys=("k",)))
    check_bind(Settings(host=host, allow_public_without_key=True))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_loopback_address_needs_none(host) -> None:
    check_bind(Settings(host=host))


def test_a_port_that_is_taken_is_one_clear_error() -> None:
    with listen(Settings(port=0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"127.0.0.1:{port}") as refused:
            listen(Settings(port=port))
    assert "\n" not in str(refused.value)


def test_a_certificate_that_is_missing_is_one_clear_error(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("vivavoce.serving.server.configure_logging", lambda settings: None)
    settings = Settings(engine="fake", port=0, ssl_certfile=tmp_path / "no.pem")
    with pytest.raises(SettingsError, match="TLS"):
        run(settings)


def test_browsers_may_call_from_the_given_origins(serve) -> None:
    server = serve(cors_origins=("https://app.example",), api_keys=("k",))
    asked = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    allowed = server.client.options("/v1/audio/speech", headers=asked)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "https://app.example"
