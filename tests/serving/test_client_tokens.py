"""Tokens for browsers and phones: what each allows, and where it ends."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any

import httpx
import pytest
from starlette.routing import Route
from tests.serving.conftest import PATIENCE_S, LiveServer, Serve, hear
from tests.serving.test_keys import ACME, BOSS, SPEECH, HandClock, call, held, refused, table
from websockets.exceptions import ConnectionClosed, InvalidStatus

from vivavoce.errors import RateLimited
from vivavoce.serving.app import ROUTERS
from vivavoce.serving.callers import Caller
from vivavoce.serving.client_tokens import ClientToken
from vivavoce.serving.keys import KeyRing
from vivavoce.settings import Settings

APP = "https://app.example"


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def server(serve: Serve, clock: HandClock) -> LiveServer:
    """Keys of an owner and of acme, who may speak as bass and tenor."""
    live = serve(
        api_keys=(BOSS,),
        keys=(table(ACME, "acme", voices=["bass", "tenor"]),),
        fake={"paced": True},
        playback="null",
    )
    live.ring.clock = clock.clock()
    return live


def mint(server: LiveServer, key: str = BOSS, **fields: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"}
    return server.client.post("/v1/client_tokens", json=fields, headers=headers)


def token(server: LiveServer, key: str = BOSS, **fields: Any) -> str:
    answer = mint(server, key, **fields)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return str(answer.json()["token"])


def refused_socket(server: LiveServer, query: str = "", **headers: str) -> tuple[int, str]:
    """Status and code of an upgrade that is refused."""
    from websockets.sync.client import connect

    url = f"ws://127.0.0.1:{server.port}/v1/audio/speech/ws{query}"
    with (
        pytest.raises(InvalidStatus) as info,
        connect(url, proxy=None, additional_headers=headers),
    ):
        pass
    response = info.value.response
    return response.status_code, json.loads(response.body)["error"]["code"]


def test_it_is_taken_wherever_a_key_is(server: LiveServer) -> None:
    from websockets.sync.client import connect

    made = token(server)
    assert call(server, made, input="Hi.").status_code == 200
    headers = {"X-API-Key": made}
    assert server.client.post(SPEECH, json={"input": "Hi."}, headers=headers).status_code == 200
    for path in ("/v1/audio/voices", "/v1/models", "/v1/info", "/openapi.json"):
        assert server.client.get(path, headers=headers).status_code == 200
    assert server.client.get(f"/v1/models?api_key={made}").status_code == 401
    url = f"ws://127.0.0.1:{server.port}/v1/audio/speech/ws?api_key={made}"
    with connect(url, proxy=None) as connection:
        connection.send('{"input": "Hi."}')
        assert hear(connection)[0][-1]["event"] == "done"


def test_it_is_known_whatever_its_length(server: LiveServer) -> None:
    for length in range(1, 21):
        origin = f"https://{'a' * length}.example"
        headers = {"X-API-Key": token(server, origin=origin), "Origin": origin}
        assert server.client.get("/v1/models", headers=headers).status_code == 200


def test_what_it_says(server: LiveServer, clock: HandClock) -> None:
    fields = {"ttl_s": 60, "voice": "bass", "concurrent": 2, "origin": "https://App.Example:443"}
    answer = mint(server, **fields).json()
    assert answer.pop("token").startswith("vvt_")
    assert answer == {
        "object": "client_token",
        "expires_at": int(clock.now) + 60,
        "voice": "bass",
        "concurrent": 2,
        "origin": APP,
    }
    assert mint(server).json()["expires_at"] == int(clock.now) + 300


def test_it_tells_nothing_of_its_key(server: LiveServer) -> None:
    for key, name in ((BOSS, "api_keys"), (ACME, "acme")):
        payload = token(server, key).removeprefix("vvt_").split(".")[0]
        said = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode()
        assert key not in said
        assert name not in said


class TestTime:
    def test_it_is_good_until_its_time_and_then_says_that_it_expired(
        self, server: LiveServer, clock: HandClock
    ) -> None:
        made = token(server, ttl_s=60)
        clock.now += 59.9
        assert call(server, made, input="Hi.").status_code == 200
        clock.now += 0.1
        refused(call(server, made), 401, "token_expired")
        assert refused_socket(server, Authorization=f"Bearer {made}") == (401, "token_expired")
        assert refused_socket(server, f"?api_key={made}") == (401, "token_expired")

    def test_a_socket_that_outlives_it_speaks_no_more(
        self, server: LiveServer, clock: HandClock
    ) -> None:
        made = token(server, ttl_s=60)
        with server.socket(additional_headers={"X-API-Key": made}) as connection:
            connection.send('{"input": "Hi."}')
            assert hear(connection)[0][-1]["event"] == "done"
            clock.now += 60
            connection.send('{"input": "Hi."}')
            assert hear(connection)[0][-1]["code"] == "token_expired"
            with pytest.raises(ConnectionClosed):
                connection.recv(timeout=PATIENCE_S)

    def test_from_a_second_to_an_hour(self, server: LiveServer) -> None:
        wrong: tuple[Any, ...] = (0, -1, 3_601, 1.5, "60", True, 10**30)
        for ttl_s in wrong:
            answer = mint(server, ttl_s=ttl_s)
            refused(answer, 400, "invalid_request")
            assert answer.json()["error"]["param"] == "ttl_s"
        for ttl_s in (1, 3_600, 60.0, None):
            assert mint(server, ttl_s=ttl_s).status_code == 200


class TestVoice:
    def test_another_voice_is_a_403(self, server: LiveServer) -> None:
        made = token(server, voice="bass")
        assert call(server, made, voice="bass", input="Hi.").status_code == 200
        assert call(server, made, input="Hi.").headers["x-vivavoce-voice"] == "bass"
        answer = call(server, made, voice="tenor")
        refused(answer, 403, "voice_not_allowed")
        assert "bass" in answer.json()["error"]["message"]
        with server.socket(additional_headers={"X-API-Key": made}) as connection:
            connection.send('{"input": "Hi.", "voice": "tenor"}')
            assert hear(connection)[0][-1]["code"] == "voice_not_allowed"
            connection.send('{"input": "Hi."}')
            assert hear(connection)[0][-1]["event"] == "done"

    def test_it_has_no_more_voices_than_its_key(self, server: LiveServer) -> None:
        assert call(server, token(server, ACME), voice="tenor", input="Hi.").status_code == 200
        refused(call(server, token(server, ACME), voice="alto"), 403, "voice_not_allowed")
        tenor = token(server, ACME, voice="tenor")
        assert call(server, tenor, input="Hi.").headers["x-vivavoce-voice"] == "tenor"
        refused(mint(server, ACME, voice="alto"), 403, "voice_not_allowed")
        refused(mint(server, BOSS, voice="nobody"), 400, "unknown_voice")

    def test_a_list_that_got_shorter_counts(self, server: LiveServer) -> None:
        made = token(server, ACME, voice="tenor")
        shorter = Settings(keys=(table(ACME, "acme", voices=["bass"]),))  # type: ignore[arg-type]
        server.ring.replace(shorter)
        refused(call(server, made, voice="tenor"), 403, "voice_not_allowed")

    def test_it_clones_no_other(self, server: LiveServer, wav_recording: bytes) -> None:
        file, fields = {"file": wav_recording}, {"input": "Hi."}
        for made, status in ((token(server), 200), (token(server, voice="bass"), 403)):
            headers = {"X-API-Key": made}
            path = f"{SPEECH}/clone"
            answer = server.client.post(path, data=fields, files=file, headers=headers)
            assert answer.status_code == status


class TestOrigin:
    def test_pages_of_its_origin_open_sockets_without_cors(self, server: LiveServer) -> None:
        made = token(server, origin=APP)
        headers = {"Origin": APP, "X-API-Key": made}
        with server.socket(additional_headers=headers) as connection:
            connection.send('{"input": "Hi."}')
            assert hear(connection)[0][-1]["event"] == "done"

    def test_other_pages_are_told_so(self, server: LiveServer) -> None:
        made = token(server, origin=APP)
        for origin in ("https://evil.example", "null", "http://app.example", None):
            page = {} if origin is None else {"Origin": origin}
            assert refused_socket(server, f"?api_key={made}", **page) == (403, "foreign_origin")
            headers = page | {"X-API-Key": made}
            answer = server.client.post(SPEECH, json={"input": "Hi."}, headers=headers)
            refused(answer, 403, "foreign_origin")
            assert APP in answer.json()["error"]["message"]

    def test_one_for_no_origin_is_for_no_foreign_page(self, server: LiveServer) -> None:
        page = {"Origin": APP, "X-API-Key": token(server)}
        assert refused_socket(server, **page) == (403, "foreign_origin")

    def test_requests_of_a_page_take_cors_as_well(self, serve: Serve) -> None:
        server = serve(api_keys=(BOSS,), cors_origins=APP)
        made = token(server, origin=APP)
        headers = {"Origin": APP, "Authorization": f"Bearer {made}"}
        answer = server.client.post(SPEECH, json={"input": "Hi."}, headers=headers)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == APP
        wrong = server.client.post(SPEECH, json={}, headers={"Origin": APP, "X-API-Key": "x"})
        assert wrong.status_code == 401
        assert wrong.headers["access-control-allow-origin"] == APP

    def test_what_is_no_origin_makes_no_token(self, server: LiveServer) -> None:
        for origin in ("null", "app.example", "https://a/b", "", "x" * 300):
            assert mint(server, origin=origin).json()["error"]["param"] == "origin"


class TestAtOnce:
    def test_its_own_limit_from_both_sides(self, server: LiveServer) -> None:
        made, other = token(server, concurrent=1), token(server, concurrent=1)
        with held(server, made):
            refused(call(server, made), 429, "rate_limit_exceeded")
            assert call(server, other, input="Hi.").status_code == 200
            with server.socket(additional_headers={"X-API-Key": made}) as connection:
                connection.send('{"input": "Hi."}')
                assert hear(connection)[0][-1]["code"] == "rate_limit_exceeded"
        assert call(server, made, input="Hi.").status_code == 200
        assert server.ring.token_running == {}

    def test_as_many_as_it_says_and_each_end_makes_room(self) -> None:
        ring = KeyRing.of(Settings(api_keys=(BOSS,)))
        told = ClientToken.new(2**40, concurrent=2)
        who = Caller(ring, ring.keys[0].digest, "boss", told)
        with who.one():
            for _ in range(2):
                with who.one(), pytest.raises(RateLimited), who.one():
                    pass
            assert ring.token_running == {told.id: 1}
        assert ring.token_running == {}

    def test_its_keys_limits_hold_for_all_its_tokens(self, serve: Serve, clock: HandClock) -> None:
        limits = {"requests_per_minute": 3, "concurrent": 1}
        server = serve(keys=(table(ACME, "acme", **limits),), fake={"paced": True})
        server.ring.clock = clock.clock()
        first, second = token(server, ACME, concurrent=5), token(server, ACME)
        with held(server, first):
            refused(call(server, second), 429, "rate_limit_exceeded")
            refused(call(server, ACME), 429, "rate_limit_exceeded")
        assert call(server, second, input="Hi.").status_code == 200
        assert call(server, ACME, input="Hi.").status_code == 200
        refused(call(server, first), 429, "rate_limit_exceeded")
        clock.now += 61
        assert call(server, first, input="Hi.").status_code == 200


KEPT_BACK = [
    ("POST", "/v1/client_tokens"),
    ("GET", "/v1/usage"),
    ("GET", "/metrics"),
    ("POST", "/cache/clear"),
    ("POST", "/v1/audio/voices"),
    ("DELETE", "/v1/audio/voices/ann"),
    ("POST", "/v1/audio/play"),
    ("GET", "/v1/audio/play"),
    ("POST", "/v1/audio/play/skip"),
    ("POST", "/v1/audio/play/stop"),
    ("POST", "/"),
]


def test_it_speaks_and_does_nothing_else(server: LiveServer) -> None:
    """Though its key has admin."""
    headers = {"X-API-Key": token(server)}
    for method, path in KEPT_BACK:
        refused(server.client.request(method, path, headers=headers), 403, "forbidden")


def test_health_is_for_keys(server: LiveServer) -> None:
    health = server.client.get("/health", headers={"X-API-Key": token(server)})
    assert set(health.json()) == {"status", "state"}


def test_a_limit_that_is_misspelt_makes_no_token(server: LiveServer) -> None:
    misspelt: tuple[dict[str, Any], ...] = ({"voices": ["bass"]}, {"orign": APP}, {"ttl": 60})
    for fields in misspelt:
        refused(mint(server, **fields), 400, "invalid_request")


def test_a_server_without_keys_has_no_tokens(serve: Serve) -> None:
    refused(mint(serve()), 404, "not_found")


class TestSignature:
    def test_what_nobody_signed_opens_nothing(self, server: LiveServer) -> None:
        made = token(server, voice="bass")
        payload, _, signature = made.removeprefix("vvt_").partition(".")
        said = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        del said["voice"]
        wider = base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b"=").decode()
        forged = [f"vvt_{wider}.{signature}", f"vvt_{payload}.", f"vvt_{payload}", "vvt_", "vvt_."]
        forged += [made[:-2], made + "A", f"vvt_{payload}.{'A' * 43}", "vvt_" + "A" * 5_000]
        forged += [f"vvt_{base64.b64encode(junk).decode()}.{signature}" for junk in (b"[]", b"{}")]
        deep = base64.urlsafe_b64encode(b"[" * 600).decode()
        for text in (*forged, f"vvt_{deep}.x"):
            refused(call(server, text), 401, "invalid_api_key")
        assert call(server, made, input="Hi.").status_code == 200

    def test_it_ends_with_its_key_and_no_other(self, server: LiveServer) -> None:
        of_boss, of_acme = token(server), token(server, ACME)
        with server.socket(additional_headers={"X-API-Key": of_acme}) as connection:
            server.ring.replace(Settings(api_keys=("another key, put first", BOSS)))
            refused(call(server, of_acme), 401, "invalid_api_key")
            assert call(server, of_boss, input="Hi.").status_code == 200
            connection.send('{"input": "Hi."}')
            assert hear(connection)[0][-1]["code"] == "invalid_api_key"

    def test_a_new_key_under_an_old_name_does_not_know_it(self, server: LiveServer) -> None:
        made = token(server, ACME)
        server.ring.replace(Settings(keys=(table("a new key", "acme"),)))  # type: ignore[arg-type]
        refused(call(server, made), 401, "invalid_api_key")

    @pytest.mark.parametrize("secret", ["", "a secret of sixteen characters"])
    def test_every_server_with_the_same_keys_knows_it(self, serve: Serve, secret: str) -> None:
        keys = (table(ACME, "acme"),)
        first = serve(api_keys=(BOSS, "third key"), keys=keys, token_secret=secret)
        second = serve(api_keys=("third key", BOSS), keys=keys, token_secret=secret)
        for key in (BOSS, ACME):
            assert call(second, token(first, key), input="Hi.").status_code == 200
        elsewhere = serve(api_keys=(BOSS,), token_secret="another secret of the owner")
        refused(call(elsewhere, token(first)), 401, "invalid_api_key")

    def test_with_its_secret_changed_it_ends_on_open_sockets_too(self, server: LiveServer) -> None:
        for secret in ("a secret for some time", "a brand new secret", "", "the secret of a day"):
            made = token(server)
            with server.socket(additional_headers={"X-API-Key": made}) as connection:
                server.ring.replace(Settings(api_keys=(BOSS,), token_secret=secret))
                connection.send('{"input": "Hi."}')
                assert hear(connection)[0][-1]["code"] == "invalid_api_key"
            refused(call(server, made), 401, "invalid_api_key")

    def test_a_secret_that_is_short_is_refused(self) -> None:
        from vivavoce.errors import SettingsError
        from vivavoce.settings import load_settings

        with pytest.raises(SettingsError, match="token_secret"):
            load_settings(token_secret="fifteen letters")

    def test_no_request_waits_for_the_slow_part(
        self, server: LiveServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Neither an honest token nor a forged one holds up the event loop for it."""
        slow: list[object] = []
        monkeypatch.setattr(hashlib, "pbkdf2_hmac", lambda *said: slow.append(said) or b"")
        payload = base64.urlsafe_b64encode(json.dumps({"key": _hint_of("plain")}).encode())
        forged = f"vvt_{payload.decode().rstrip('=')}.AAAA"
        assert call(server, forged, input="Hi you.").status_code == 401
        assert call(server, token(server), input="Hi you.").status_code == 200
        assert slow == []


def _hint_of(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:12]


@pytest.mark.parametrize("ending", ["%0A", "%0D", "%00", "%C2%85", "%E2%80%A8"])
def test_no_ending_of_a_path_goes_around_its_rules(server: LiveServer, ending: str) -> None:
    """A pattern that ends in ``$`` matches before a last line feed."""
    asked = {
        (method, re.sub(r"\{[^}]*\}", "x", route.path))
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, Route)
        for method in route.methods or ()
    }
    assert len(asked) > 20
    for sent in (token(server), BOSS, ACME):
        headers = {"Authorization": f"Bearer {sent}"}
        for method, path in sorted(asked):
            answer = server.client.request(method, path + ending, headers=headers)
            assert answer.status_code == 404, (method, path)
