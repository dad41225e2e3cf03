"""What was spoken for each key sums to what was spoken."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from tests.serving.conftest import LiveServer, Serve, hear, settle
from tests.serving.test_client_tokens import token
from tests.serving.test_keys import ACME, BOSS, SPEECH, call, held, table

from vivavoce.key_table import MAX_KEYS
from vivavoce.serving.usage import OTHERS, Usage
from vivavoce.settings import Settings
from vivavoce.types import Timings


def rows(server: LiveServer, key: str = BOSS) -> dict[str, tuple[int, int, float]]:
    answer = server.client.get("/v1/usage", headers={"X-API-Key": key})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/csv")
    table = list(csv.reader(io.StringIO(answer.text, newline="")))
    assert table[0] == ["key", "requests", "characters", "seconds"]
    return {name: (int(count), int(chars), float(s)) for name, count, chars, s in table[1:]}


def metrics(server: LiveServer, name: str) -> dict[str, float]:
    """A counter's samples, by key."""
    from prometheus_client.parser import text_string_to_metric_families

    text = server.client.get("/metrics", headers={"X-API-Key": BOSS}).text
    return {
        sample.labels.get("key", ""): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def seconds(sound: bytes) -> float:
    return len(sound) / 2 / 24_000


@pytest.fixture
def server(serve: Serve) -> LiveServer:
    return serve(api_keys=(BOSS,), keys=(table(ACME, "acme"),), playback="null")


def test_the_sums_are_those_of_what_was_spoken(server: LiveServer, wav_recording: bytes) -> None:
    heard, pcm = 0.0, {"response_format": "pcm"}
    for _ in range(2):  # made, and remembered
        heard += seconds(call(server, ACME, **pcm).content)
    heard += seconds(call(server, token(server, ACME), input="With a token.", **pcm).content)
    with server.socket(additional_headers={"X-API-Key": ACME}) as connection:
        for text in ("One.", "And two."):
            connection.send(f'{{"input": "{text}"}}')
            heard += seconds(hear(connection)[1])
    clone = {"input": "In another voice.", "response_format": "pcm"}
    answer = server.client.post(
        f"{SPEECH}/clone", data=clone, files={"file": wav_recording}, headers={"X-API-Key": ACME}
    )
    heard += seconds(answer.content)
    texts = ["Hello there."] * 2 + ["With a token.", "One.", "And two.", "In another voice."]
    # What is refused or wrong is not spoken.
    for wrong in ({"voice": "nobody"}, {"input": " "}, {"speed": 9}):
        assert call(server, ACME, **wrong).status_code == 400
    count, characters, spoken = rows(server)["acme"]
    assert (count, characters) == (len(texts), sum(map(len, texts)))
    assert spoken == pytest.approx(heard, abs=0.01)
    assert rows(server)["api_keys[0]"] == (0, 0, 0.0)


def test_of_what_was_broken_off_the_delivered_part_counts(server: LiveServer, serve: Serve) -> None:
    server = serve(api_keys=(BOSS,), fake={"paced": True}, audio_cache_max=0)
    with held(server, BOSS):
        pass
    assert settle(lambda: rows(server)["api_keys[0]"][0] == 1)
    _, _, spoken = rows(server)["api_keys[0]"]
    assert 0 < spoken < 60
    (total,) = metrics(server, "tts_audio_seconds_total").values()
    assert spoken == pytest.approx(total, abs=0.001)


def test_the_sums_of_all_keys_are_the_servers(server: LiveServer) -> None:
    call(server, BOSS)
    call(server, ACME, input="For acme.")
    headers = {"X-API-Key": ACME}
    play = server.client.post("/v1/audio/play", json={"input": "Aloud."}, headers=headers)
    assert play.status_code == 200
    table = rows(server)
    assert {name: row[0] for name, row in table.items()} == {"api_keys[0]": 1, "acme": 2}
    (total,) = metrics(server, "tts_audio_seconds_total").values()
    assert sum(row[2] for row in table.values()) == pytest.approx(total, abs=0.002)
    for place, name in enumerate(("requests", "characters", "audio_seconds")):
        samples = metrics(server, f"tts_key_{name}_total")
        assert samples == pytest.approx({key: row[place] for key, row in table.items()}, abs=0.001)


def test_no_key_is_told(server: LiveServer) -> None:
    call(server, BOSS)
    headers = {"X-API-Key": BOSS}
    for path in ("/metrics", "/v1/usage"):
        assert BOSS not in server.client.get(path, headers=headers).text


def test_a_key_that_is_gone_leaves_its_sums(server: LiveServer) -> None:
    call(server, ACME)
    server.ring.replace(Settings(api_keys=(BOSS,)))
    assert rows(server)["acme"][0] == 1


def test_without_keys_everybody_is_one(serve: Serve) -> None:
    server = serve()
    assert rows(server) == {"(anonymous)": (0, 0, 0.0)}
    server.speak()
    assert rows(server)["(anonymous)"][:2] == (1, len("Hello there."))


def test_the_number_of_names_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from prometheus_client import CollectorRegistry

    usage, timings = Usage(CollectorRegistry()), Timings(characters=1)
    timings.audio_s = 0.5
    names = iter(f"key{count}" for count in range(2 * MAX_KEYS + 5))
    monkeypatch.setattr("vivavoce.serving.usage.caller_name", lambda: next(names))
    for _ in range(2 * MAX_KEYS + 5):
        usage.add(timings)
    table = list(csv.reader(io.StringIO(usage.table([]))))
    assert len(table) == 2 * MAX_KEYS + 2
    others: Any = next(row for row in table if row[0] == OTHERS)
    assert others == [OTHERS, "5", "5", "2.500"]
