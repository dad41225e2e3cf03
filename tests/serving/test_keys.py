"""Keys with names and limits, over HTTP and WebSocket, each limit from both sides."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from tests.serving.conftest import PATIENCE_S, LiveServer, Serve, hear, settle
from websockets.exceptions import ConnectionClosed, InvalidStatus

from vivavoce.errors import RateLimited, SettingsError
from vivavoce.key_table import digest_of
from vivavoce.serving.keys import Allowance, ApiKey, Clock, KeyRing
from vivavoce.settings import Settings, load_settings

SPEECH = "/v1/audio/speech"
BOSS = "the key of the owner"
ACME = "the key of acme"


def table(key: str, name: str, **limits: Any) -> dict[str, Any]:
    return {"name": name, "sha256": digest_of(key).hex()} | limits


@dataclass
class HandClock:
    """A clock that a test sets."""

    now: float = 1_000_000.0

    def clock(self) -> Clock:
        return Clock(lambda: self.now, lambda: self.now)


Keyed = Callable[..., LiveServer]


@pytest.fixture
def keyed(serve: Serve) -> Keyed:
    """A server with an owner's key, and one for acme with the limits given."""

    def start(limits: dict[str, Any] | None = None, **settings: Any) -> LiveServer:
        tables = (table(ACME, "acme", **(limits or {})),)
        return serve(api_keys=(BOSS,), keys=tables, **settings)

    return start


def call(server: LiveServer, key: str, path: str = SPEECH, **fields: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"}
    body = {"input": "Hello there."} | fields
    return server.client.post(path, json=body, headers=headers)


def refused(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@contextmanager
def held(server: LiveServer, key: str) -> Iterator[None]:
    """An utterance of that key that goes on until the context ends."""
    fields = {"input": "on and on " * 500, "response_format": "pcm"}
    headers = {"Authorization": f"Bearer {key}"}
    before = server.service.admission.running
    with server.client.stream("POST", SPEECH, json=fields, headers=headers) as answer:
        assert answer.status_code == 200
        yield
    assert settle(lambda: server.service.admission.running == before)


def test_a_key_with_a_table_opens_what_a_plain_key_does(keyed: Keyed) -> None:
    server = keyed()
    assert call(server, ACME).status_code == 200
    assert call(server, BOSS).status_code == 200
    refused(call(server, ACME + "x"), 401, "invalid_api_key")
    refused(call(server, digest_of(ACME).hex()), 401, "invalid_api_key")
    with server.socket(additional_headers={"X-API-Key": ACME}) as connection:
        connection.send('{"input": "Hi you."}')
        assert hear(connection)[0][-1]["event"] == "done"


def test_an_empty_key_is_none(keyed: Keyed) -> None:
    client = keyed().client
    for headers in ({"X-API-Key": ""}, {"Authorization": "Bearer"}, {"Authorization": ""}):
        assert client.get("/v1/models", headers=headers).status_code == 401


def test_of_several_keys_one_must_be_right_and_not_many_are_tried(keyed: Keyed) -> None:
    client = keyed().client
    both = [("X-API-Key", "a wrong one"), ("Authorization", f"Bearer {ACME}")]
    assert client.get("/v1/models", headers=both).status_code == 200
    assert client.get("/v1/models", headers=[("X-API-Key", ACME)] * 5).status_code == 401


class TestMinute:
    def test_over_the_limit_is_a_429_that_says_when(self, keyed: Keyed) -> None:
        server, hand = keyed({"requests_per_minute": 3}), HandClock()
        server.ring.clock = hand.clock()
        for second in range(3):
            hand.now += second
            assert call(server, ACME).status_code == 200
        hand.now += 1.5
        steps = server.engine.steps
        over = call(server, ACME)
        refused(over, 429, "rate_limit_exceeded")
        assert over.headers["retry-after-ms"] == "55500"
        assert over.headers["retry-after"] == "56"
        assert over.json()["error"]["type"] == "rate_limit_error"
        assert server.engine.steps == steps
        assert call(server, BOSS).status_code == 200
        hand.now += 55.4
        refused(call(server, ACME), 429, "rate_limit_exceeded")
        hand.now += 0.1
        assert call(server, ACME).status_code == 200
        refused(call(server, ACME), 429, "rate_limit_exceeded")

    def test_each_text_of_a_socket_counts_whatever_the_socket(self, keyed: Keyed) -> None:
        server, hand = keyed({"requests_per_minute": 2}), HandClock()
        server.ring.clock = hand.clock()
        with server.socket(additional_headers={"X-API-Key": ACME}) as connection:
            for _ in range(3):
                connection.send('{"input": "Hi you."}')
            ends = [hear(connection)[0][-1] for _ in range(3)]
            assert [end["event"] for end in ends] == ["done", "done", "error"]
            assert ends[2]["code"] == "rate_limit_exceeded"
            assert 0 < ends[2]["retry_after_ms"] <= 60_000
            refused(call(server, ACME), 429, "rate_limit_exceeded")
            hand.now += 60
            connection.send('{"input": "Hi you."}')
            assert hear(connection)[0][-1]["event"] == "done"

    def test_clones_saved_voices_and_playback_count(
        self, keyed: Keyed, wav_recording: bytes
    ) -> None:
        server = keyed({"requests_per_minute": 3}, playback="null")
        headers = {"X-API-Key": ACME}
        file = {"file": wav_recording}
        fields = {"input": "Hi you."}
        posts: list[tuple[str, dict[str, Any]]] = [
            (f"{SPEECH}/clone", {"data": fields, "files": file}),
            ("/v1/audio/voices", {"data": {"name": "ann"}, "files": file}),
            ("/v1/audio/play", {"json": fields}),
        ]
        for path, what in posts:
            assert server.client.post(path, headers=headers, **what).status_code == 200, path
        for path, what in posts:
            answer = server.client.post(path, headers=headers, **what)
            refused(answer, 429, "rate_limit_exceeded")
        assert [voice.id for voice in server.service.voices.saved()] == ["ann"]
        text = server.client.get("/metrics", headers={"X-API-Key": BOSS}).text
        for transport in ("http", "voices", "play"):
            line = f'tts_requests_total{{outcome="rejected",transport="{transport}"}} 1.0'
            assert line in text

    def test_no_minute_sees_more_and_what_was_refused_does_not_count(self) -> None:
        key, allowance = ApiKey("a", b"", requests_per_minute=10), Allowance()
        granted: list[float] = []
        for tick in range(4_000):
            now_s = tick * 0.07
            try:
                with allowance.one(key, now_s):
                    granted.append(now_s)
            except RateLimited as error:
                assert 0 < error.retry_after_ms <= 60_000
        for begin in granted:
            assert sum(begin <= each < begin + 60 for each in granted) <= 10
        assert len(granted) >= 40


class TestAtOnce:
    def test_one_more_is_a_429_until_one_has_ended(self, keyed: Keyed) -> None:
        server = keyed({"concurrent": 1}, fake={"paced": True})
        with held(server, ACME):
            over = call(server, ACME)
            refused(over, 429, "rate_limit_exceeded")
            assert int(over.headers["retry-after-ms"]) > 0
            assert (server.service.admission.running, server.service.admission.waiting) == (1, 0)
            with server.socket(additional_headers={"X-API-Key": ACME}) as connection:
                connection.send('{"input": "Hi you."}')
                assert hear(connection)[0][-1]["code"] == "rate_limit_exceeded"
            assert call(server, BOSS, input="Hi.").status_code == 200
        assert call(server, ACME, input="Hi.").status_code == 200

    def test_who_waits_in_the_queue_counts(self, keyed: Keyed) -> None:
        server = keyed({"concurrent": 2}, fake={"paced": True}, capacity=1)
        with held(server, BOSS):
            waiting = [
                threading.Thread(target=call, args=(server, ACME), kwargs={"input": "Hi."})
                for _ in range(2)
            ]
            for thread in waiting:
                thread.start()
            assert settle(lambda: server.service.admission.waiting == 2)
            refused(call(server, ACME), 429, "rate_limit_exceeded")
        for thread in waiting:
            thread.join(PATIENCE_S)
        assert call(server, ACME, input="Hi.").status_code == 200

    def test_texts_that_wait_on_their_own_socket_take_turns(self, keyed: Keyed) -> None:
        server = keyed({"concurrent": 1})
        with server.socket(additional_headers={"X-API-Key": ACME}) as connection:
            for _ in range(4):
                connection.send('{"input": "Hi you."}')
            assert [hear(connection)[0][-1]["event"] for _ in range(4)] == ["done"] * 4

    def test_the_end_of_one_makes_room_for_one(self) -> None:
        key, allowance = ApiKey("a", b"", concurrent=2), Allowance()
        with allowance.one(key, 0.0):
            with allowance.one(key, 0.0):
                pass
            with allowance.one(key, 0.0):
                assert allowance.running == 2
                with pytest.raises(RateLimited), allowance.one(key, 0.0):
                    pass
        assert allowance.running == 0


class TestVoices:
    def test_another_voice_is_a_403(self, keyed: Keyed) -> None:
        server = keyed({"voices": ["bass", "alloy"]})
        for voice in ("bass", "alloy", "alto"):  # alloy is another name for alto
            assert call(server, ACME, voice=voice).status_code == 200, voice
        for voice in ("tenor", "nobody"):
            answer = call(server, ACME, voice=voice)
            refused(answer, 403, "voice_not_allowed")
            assert answer.json()["error"]["param"] == "voice"
            assert "bass" in answer.json()["error"]["message"]
            assert "tenor" not in answer.json()["error"]["message"]
        assert call(server, BOSS, voice="tenor").status_code == 200

    def test_without_a_name_it_is_the_first_of_the_list(self, keyed: Keyed) -> None:
        server = keyed({"voices": ["bass"]})
        assert call(server, ACME).headers["x-vivavoce-voice"] == "bass"
        assert call(server, ACME, voice="").headers["x-vivavoce-voice"] == "bass"

    def test_on_a_socket_it_costs_that_text_alone(self, keyed: Keyed) -> None:
        server = keyed({"voices": ["bass"]})
        with server.socket(additional_headers={"X-API-Key": ACME}) as connection:
            connection.send('{"input": "Hi you.", "voice": "tenor"}')
            assert hear(connection)[0][-1]["code"] == "voice_not_allowed"
            connection.send('{"input": "Hi you."}')
            assert hear(connection)[0][-1]["event"] == "done"

    def test_no_other_voice_is_listed(self, keyed: Keyed) -> None:
        server = keyed({"voices": ["bass"]})
        client, headers = server.client, {"X-API-Key": ACME}
        listed = client.get("/v1/audio/voices", headers=headers).json()["voices"]
        assert {entry["alias_of"] or entry["id"] for entry in listed} == {"bass"}
        assert client.get("/v1/info", headers=headers).json()["voices"] == ["bass"]
        assert client.get("/health", headers=headers).json()["voices"] == ["bass"]

    def test_it_brings_no_other_voice(self, keyed: Keyed, wav_recording: bytes) -> None:
        server = keyed({"voices": ["bass"]})
        headers, file = {"X-API-Key": ACME}, {"file": wav_recording}
        clone = {"input": "Hi you."}
        answer = server.client.post(f"{SPEECH}/clone", data=clone, files=file, headers=headers)
        refused(answer, 403, "forbidden")
        answer = server.client.post(
            "/v1/audio/voices", data={"name": "bass2"}, files=file, headers=headers
        )
        refused(answer, 403, "forbidden")
        assert len(server.service.voices.saved()) == 0


ADMINS = [
    ("GET", "/v1/usage"),
    ("GET", "/metrics"),
    ("POST", "/cache/clear"),
    ("DELETE", "/v1/audio/voices/nobody"),
]


def test_what_all_callers_share_takes_admin(keyed: Keyed) -> None:
    plain, admin = keyed(), keyed({"admin": True})
    acme, boss = {"X-API-Key": ACME}, {"X-API-Key": BOSS}
    for method, path in ADMINS:
        refused(plain.client.request(method, path, headers=acme), 403, "forbidden")
        assert admin.client.request(method, path, headers=acme).status_code in (200, 404)
        assert plain.client.request(method, path, headers=boss).status_code in (200, 404)


class TestRing:
    """Keys that change while the server runs."""

    def test_a_removed_key_opens_nothing_and_its_socket_is_closed(self, keyed: Keyed) -> None:
        server = keyed()
        with server.socket(additional_headers={"X-API-Key": ACME}) as connection:
            connection.send('{"input": "Hi you."}')
            assert hear(connection)[0][-1]["event"] == "done"
            server.ring.replace(Settings(api_keys=(BOSS,)))
            connection.send('{"input": "Hi you."}')
            with suppress(ConnectionClosed):  # it may be quicker than the second text
                connection.send('{"input": "Hi you."}')
            assert hear(connection)[0][-1]["code"] == "invalid_api_key"
            with pytest.raises(ConnectionClosed) as closed:
                connection.recv(timeout=PATIENCE_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
        refused(call(server, ACME), 401, "invalid_api_key")
        with pytest.raises(InvalidStatus), server.socket(additional_headers={"X-API-Key": ACME}):
            pass
        assert call(server, BOSS).status_code == 200

    def test_what_it_speaks_already_is_finished(self, keyed: Keyed) -> None:
        server = keyed(fake={"paced": True})
        with server.socket(additional_headers={"X-API-Key": ACME}) as connection:
            connection.send(json.dumps({"input": "Hello there."}))
            assert json.loads(connection.recv(timeout=PATIENCE_S))["event"] == "start"
            server.ring.replace(Settings(api_keys=(BOSS,)))
            assert hear(connection)[0][-1]["event"] == "done"

    def test_limits_change_for_open_sockets_too(self, keyed: Keyed) -> None:
        server = keyed()
        with server.socket(additional_headers={"X-API-Key": ACME}) as connection:
            changed = Settings(keys=(table(ACME, "acme", voices=["bass"]),))  # type: ignore[arg-type]
            server.ring.replace(changed)
            connection.send('{"input": "Hi you.", "voice": "tenor"}')
            assert hear(connection)[0][-1]["code"] == "voice_not_allowed"

    def test_each_key_is_found_by_its_own_digest_alone(self) -> None:
        ring = KeyRing.of(Settings(api_keys=tuple(f"key number {n}" for n in range(20))))
        for key in ring.keys:
            assert ring.current(key.digest) is key
            assert ring.current(bytes(32)) is ring.current(b"\xff" * 32) is None

    def test_a_lowered_limit_counts_what_was_spoken_before(self) -> None:
        allowance, now_s = Allowance(), 0.0
        for _ in range(5):
            with allowance.one(ApiKey("a", b"", requests_per_minute=5), now_s):
                now_s += 1
        with pytest.raises(RateLimited) as over, allowance.one(ApiKey("a", b"", 2), now_s):
            pass
        assert over.value.retry_after_ms == 58_000

    def test_a_server_left_without_keys_lets_nobody_in(self, keyed: Keyed) -> None:
        server = keyed()
        server.ring.replace(Settings())
        for key in (ACME, BOSS):
            refused(call(server, key), 401, "invalid_api_key")
        assert server.client.get("/v1/models", headers={"X-API-Key": ""}).status_code == 401
        assert server.client.get("/livez").status_code == 200

    def test_short_keys_are_warned_of_without_being_told(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        KeyRing.of(Settings(api_keys=("0123456789abcde", "0123456789abcdef")))
        (record,) = caplog.records
        assert (record.key, record.characters) == ("api_keys[0]", 15)  # type: ignore[attr-defined]
        assert "0123456789" not in caplog.text


BLANK = ['""', '[""]', '[" "]', '["\\t"]', '["a long enough key", ""]', '"one,,two"', '","']


class TestSettings:
    @pytest.mark.parametrize("written", BLANK)
    def test_an_empty_key_opens_no_door(self, tmp_path: Any, written: str) -> None:
        file = tmp_path / "settings.toml"
        file.write_text(f"host = '0.0.0.0'\napi_keys = {written}\n")
        with pytest.raises(SettingsError, match="empty key"):
            load_settings(file)

    @pytest.mark.parametrize("value", ["", " ", ",", "one, ,two"])
    @pytest.mark.parametrize("variable", ["VIVAVOCE_API_KEYS", "VIVAVOCE_API_KEY"])
    def test_nor_does_one_from_the_environment(
        self, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
    ) -> None:
        monkeypatch.setenv(variable, value)
        with pytest.raises(SettingsError, match="empty key"):
            load_settings()

    @pytest.mark.parametrize("value", ["", ("",), (" ",), ("a", "\n"), ("a\x1b[2Jb",), (" a",)])
    def test_nor_one_that_is_given(self, value: Any) -> None:
        with pytest.raises(SettingsError, match="api_keys"):
            load_settings(api_keys=value)

    def test_the_key_itself_is_not_in_the_message(self) -> None:
        with pytest.raises(SettingsError) as told:
            load_settings(api_keys=("super secret\n",))
        assert "super" not in str(told.value)

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ('sha256 = "00"', "sha256"),
            (f'sha256 = "{digest_of("").hex()}"', "empty key"),
            (f'sha256 = "{digest_of("k").hex()}"\nvoice = "bass"', "voice: unknown setting"),
            (f'sha256 = "{digest_of("k").hex()}"\nvoices = []', "voices"),
            (f'sha256 = "{digest_of("k").hex()}"\nvoices = [""]', "empty name"),
            (f'sha256 = "{digest_of("k").hex()}"\nconcurrent = 0', "concurrent"),
            (f'sha256 = "{digest_of("k").hex()}"\nrequests_per_minute = -1', "requests_per_minute"),
            (f'sha256 = "{digest_of("k").hex()}"\nadmin = "no"', "admin"),
            (f'sha256 = "{digest_of("plain key").hex()}"', "same key as api_keys"),
            (
                f'sha256 = "{digest_of("b").hex()}"\n[[keys]]\nname = "a"\nsha256 = "{"0" * 64}"',
                "two",
            ),
            (
                f'sha256 = "{"0" * 64}"\n[[keys]]\nname = "b"\nsha256 = "{"0" * 64}"',
                "same key as a",
            ),
        ],
    )
    def test_a_table_that_is_wrong_says_what(self, tmp_path: Any, fields: str, said: str) -> None:
        file = tmp_path / "settings.toml"
        file.write_text(f'api_keys = ["plain key"]\n[[keys]]\nname = "a"\n{fields}\n')
        with pytest.raises(SettingsError, match=said):
            load_settings(file)

    @pytest.mark.parametrize("name", ["", "a b", "-a", "a\x1b", "(anonymous)", "api_keys[0]"])
    def test_names_are_fit_for_labels(self, name: str) -> None:
        with pytest.raises(SettingsError, match="name"):
            load_settings(keys=(table("k", name),))
