"""WebSocket /v1/audio/speech/ws."""

from __future__ import annotations

import json

import pytest
from tests.serving.conftest import hear, settle
from websockets.exceptions import ConnectionClosed


def _say(connection, **fields) -> None:
    connection.send(json.dumps({"input": "Hello there."} | fields))


def test_one_text_is_start_sound_done(server) -> None:
    with server.socket() as connection:
        _say(connection, voice="nova")
        events, sound = hear(connection)
    assert [event["event"] for event in events] == ["start", "done"]
    start, done = events
    assert (start["sample_rate"], start["encoding"], start["channels"]) == (24_000, "pcm_s16le", 1)
    assert done["audio_s"] == pytest.approx(len(sound) / 2 / 24_000, abs=0.01)
    assert done["request_id"] == start["request_id"]


@pytest.mark.parametrize(("encoding", "width"), [("ulaw", 1), ("alaw", 1), ("pcm", 2)])
def test_telephone_encodings(server, encoding, width) -> None:
    with server.socket() as connection:
        _say(connection, response_format=encoding, sample_rate=8_000)
        (start, done), sound = hear(connection)
    assert start["encoding"] == ("pcm_s16le" if encoding == "pcm" else encoding)
    assert len(sound) == pytest.approx(done["audio_s"] * 8_000 * width, abs=40)


def test_texts_are_spoken_in_the_order_they_came(serve) -> None:
    server = serve(fake={"step_ms": 5})
    with server.socket() as connection:
        for count in (3, 1, 2):
            _say(connection, input="word " * count)
        heard = [hear(connection) for _ in range(3)]
    lengths = [len(sound) for _, sound in heard]
    assert lengths[0] > lengths[2] > lengths[1]
    identities = [events[0]["request_id"] for events, _ in heard]
    assert identities == sorted(identities)


def test_cancel_is_obeyed_within_a_step_and_silences_what_waits(serve) -> None:
    server = serve(fake={"paced": True})
    with server.socket() as connection:
        _say(connection, input="a long text " * 100)
        _say(connection, input="never heard")
        assert json.loads(connection.recv())["event"] == "start"
        connection.recv()
        connection.send('{"type": "cancel"}')
        events, _ = hear(connection)
        assert events == [{"event": "cancelled", "count": 2}]
        assert server.idle
        assert settle(lambda: server.service.lifecycle.loop.live == 0)
        _say(connection)
        events, sound = hear(connection)
        assert events[-1]["event"] == "done"
        assert sound


def test_cancel_with_nothing_to_cancel_is_answered(server) -> None:
    with server.socket() as connection:
        connection.send('{"type": "cancel"}')
        assert json.loads(connection.recv()) == {"event": "cancelled", "count": 0}


@pytest.mark.parametrize(
    ("message", "code", "param"),
    [
        ("nonsense", "invalid_request", None),
        ("[]", "invalid_request", None),
        ("{}", "invalid_request", "input"),
        ('{"input": "Hi.", "speed": NaN}', "invalid_request", None),
        ('{"input": "Hi.", "voice": "nobody"}', "unknown_voice", "voice"),
        ('{"input": "..."}', "empty_input", "input"),
        ('{"input": "Hi.", "response_format": "mp3"}', "invalid_request", "response_format"),
        ('{"input": "Hi.", "type": "shout"}', "invalid_request", "type"),
        ('{"input": "failword failword"}', "engine_error", None),
    ],
)
def test_an_error_leaves_the_socket_usable(server, message, code, param) -> None:
    with server.socket() as connection:
        connection.send(message)
        events, _ = hear(connection)
        error = events[-1]
        assert (error["event"], error["code"], error["param"]) == ("error", code, param)
        assert error["detail"] == error["message"]
        _say(connection)
        assert hear(connection)[0][-1]["event"] == "done"


def test_too_many_waiting_texts_are_refused(serve) -> None:
    server = serve(fake={"paced": True})
    with server.socket() as connection:
        for _ in range(12):
            _say(connection, input="a long text " * 100)
        events = []
        while not any(event["event"] == "error" for event in events):
            message = connection.recv()
            if isinstance(message, str):
                events.append(json.loads(message))
    refused = next(event for event in events if event["event"] == "error")
    assert refused["code"] == "busy"
    assert refused["retry_after_ms"] > 0
    assert settle(lambda: server.idle)


def test_a_binary_message_closes_the_socket(server) -> None:
    with server.socket() as connection:
        connection.send(b"\x00\x01")
        assert json.loads(connection.recv())["event"] == "error"
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv()
    assert closed.value.rcvd.code == 1003


def test_a_message_over_the_limit_closes_the_socket(serve) -> None:
    server = serve(max_body_bytes=2_000)
    with server.socket() as connection, pytest.raises(ConnectionClosed) as closed:
        connection.send("x" * 4_000)
        connection.recv()
    assert closed.value.rcvd.code == 1009


def test_what_was_ignored_is_named(server) -> None:
    with server.socket() as connection:
        _say(connection, foo=1, model="tts-1")
        assert hear(connection)[0][0]["ignored"] == ["foo", "model"]
