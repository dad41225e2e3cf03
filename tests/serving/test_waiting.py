"""What waits on WebSockets is bounded for all of them together, and nobody takes it all."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from tests.serving.conftest import Serve, hear, settle

from vivavoce.errors import Busy
from vivavoce.serving import waiting as waiting_module
from vivavoce.serving.body import checked
from vivavoce.serving.dialects.openai import OpenAISpeechBody
from vivavoce.serving.dialects.websocket import SocketSpeechBody
from vivavoce.serving.waiting import OWN_BYTES, Share, WaitingTexts, size_of
from vivavoce.types import SpeechRequest

LONG = json.dumps({"input": "on and on " * 500})


def filled(room: WaitingTexts, size: int) -> Share:
    share = Share(room)
    with pytest.raises(Busy):
        while True:
            share.take(size)
    return share


def test_however_many_take_all_they_can_the_next_has_its_own() -> None:
    most = 1_000_000
    room = WaitingTexts(most)
    hogs = [filled(room, 1_000)]
    assert room.free_bytes == pytest.approx(most / 2, abs=2_000), "one takes half"
    hogs += [filled(room, 1_000) for _ in range(100)]
    assert room.free_bytes >= 0
    Share(room).take(OWN_BYTES)
    for hog in hogs:
        hog.give_all_back()
    assert room.free_bytes == most


def test_what_is_given_back_in_parts_can_be_taken_again() -> None:
    room = WaitingTexts(100_000)
    share = Share(room)
    for size in (30_000, 30_000, 10_000):
        share.take(size)
    for size in (30_000, 10_000, 30_000):
        share.give_back(size)
    assert room.free_bytes == 100_000
    share.take(OWN_BYTES + 100_000)
    assert room.free_bytes == 0
    share.give_all_back()
    assert room.free_bytes == 100_000


def test_what_is_counted_is_what_is_kept() -> None:
    entries = {f"word{number}": "x" * 20 for number in range(500)}
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = [
        SocketSpeechBody.model_validate_json(
            json.dumps({"input": f"{number}" + "ä" * 5_000, "lexicon": entries})
        ).to_order()
        for number in range(20)
    ]
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    counted = sum(size_of(order.request) for order in kept)
    assert taken < 1.5 * counted
    assert counted < 3 * taken
    assert size_of(SpeechRequest("Hi.")) < 4_096


@pytest.mark.parametrize("kind", [OpenAISpeechBody, SocketSpeechBody])
def test_of_names_that_mean_nothing_little_is_kept(kind: type[SocketSpeechBody]) -> None:
    """The rest of them, 250 kB a text, waited with it for as long as the one before was spoken."""
    fields = {"input": "Hi."} | {f"{number}" + "x" * 2_000: 1 for number in range(90)}
    names = checked(fields, kind).unknown_fields
    assert len(names) == 20
    assert max(map(len, names)) == 64


def test_a_text_too_many_is_busy_and_what_waited_is_given_back(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(fake={"paced": True})
    waiting = server.server._context.waiting
    monkeypatch.setattr(waiting_module, "OWN_BYTES", 10_000)
    waiting.free_bytes = most = 10_000
    with server.socket() as hog, server.socket() as other:
        for _ in range(6):
            hog.send(LONG)
        events = []
        while not events or events[-1]["event"] != "error":
            message = hog.recv(timeout=60)
            if isinstance(message, str):
                events.append(json.loads(message))
        assert (events[-1]["code"], events[-1]["retry_after_ms"]) == ("busy", 1_000)
        other.send('{"input": "Hi you."}')
        assert hear(other)[0][-1]["event"] == "done"
        assert waiting.free_bytes < most
        hog.send('{"type": "cancel"}')
        while hear(hog)[0][-1]["event"] != "cancelled":
            pass
        assert waiting.free_bytes == most
        for _ in range(4):
            hog.send(LONG)
        assert settle(lambda: waiting.free_bytes < most)
    assert settle(lambda: waiting.free_bytes == most), "also when its client leaves"
