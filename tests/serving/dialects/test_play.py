"""Playback on the server's machine, with a null sink that takes its time as a device does."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from errno import ENOSPC
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.conftest import LiveServer, Serve, settle
from vivavoce.audio import play_queue
from vivavoce.audio import playback as play_room
from vivavoce.audio.decode import decode_audio
from vivavoce.audio.playback import NullPlayer
from vivavoce.errors import PlaybackError
from vivavoce.serving import loudspeaker as playing_room
from vivavoce.serving import server as server_room
from vivavoce.settings import Settings

LONG = "This is a sentence that takes about three seconds."
SHORT = "Hi."


@pytest.fixture
def desk(serve: Serve, tmp_path: Path) -> LiveServer:
    """A server with playback on and a folder for files."""
    return serve(playback="null", playback_queue=3, output_dir=tmp_path / "out")


def state(server: LiveServer) -> dict[str, Any]:
    return server.client.get("/v1/audio/play").json()


def play(server: LiveServer, text: str = SHORT, **fields: Any) -> dict[str, Any]:
    answer = server.speak("/v1/audio/play", input=text, **fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def queued(server: LiveServer) -> int:
    return int(state(server)["queued"])


def heard_now(server: LiveServer) -> bool:
    told = state(server)
    return bool(told["playing"]) and told["seconds"] > 0


def test_it_answers_when_all_is_made_long_before_all_is_heard(desk: LiveServer) -> None:
    answered = play(desk, LONG)
    assert answered["state"] == "done"
    assert answered["audio_s"] > 2.5
    assert settle(lambda: heard_now(desk))
    assert desk.idle


def test_with_start_it_answers_while_it_is_still_speaking(serve: Serve) -> None:
    server = serve(playback="null", fake={"paced": True})
    answered = play(server, "Half a second.", wait="start")
    assert answered["state"] == "started"
    assert answered["total_ms"] is None
    assert not server.idle
    assert settle(lambda: server.idle)


def test_with_played_it_answers_when_all_was_heard(desk: LiveServer) -> None:
    began_s = time.monotonic()
    answered = play(desk, SHORT, wait="played")
    assert answered["state"] == "played"
    assert time.monotonic() - began_s >= answered["audio_s"] * 0.9
    assert answered["playback_ms"] > 0
    assert queued(desk) == 0


def test_two_are_heard_in_the_order_in_which_they_came(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[int] = []

    class Noted(NullPlayer):
        def finish(self) -> None:
            super().finish()
            heard.append(self.played_samples)

    monkeypatch.setattr(playing_room, "NullPlayer", Noted)
    server = serve(playback="null")
    first = play(server, "A first sentence.", wait="start")
    second = play(server, SHORT, wait="played")
    assert (first["ahead"], second["ahead"]) == (0, 1)
    assert len(heard) == 2
    assert heard[0] > heard[1]
    assert heard[1] == pytest.approx(second["audio_s"] * 24_000, abs=24)


def test_skip_ends_the_first_and_frees_its_slot(serve: Serve) -> None:
    server = serve(playback="null", fake={"paced": True})
    play(server, "One long runawayword here.", wait="start")
    play(server, LONG, wait="start")
    assert server.client.post("/v1/audio/play/skip").json() == {"ended": 1}
    assert server.service.admission.running == 1
    assert queued(server) <= 2
    assert settle(lambda: queued(server) == 1)
    assert server.client.post("/v1/audio/play/stop").json() == {"ended": 1}
    assert settle(lambda: queued(server) == 0)
    assert server.idle
    assert server.steps_stop()


def test_with_nothing_to_end_nothing_is_ended(desk: LiveServer) -> None:
    for what in ("skip", "stop"):
        assert desk.client.post(f"/v1/audio/play/{what}").json() == {"ended": 0}
    told = {"playback": "null", "playing": False, "queued": 0, "seconds": 0.0, "failures": []}
    assert state(desk) == told


def test_whoever_waits_for_what_is_stopped_is_told(serve: Serve) -> None:
    server = serve(playback="null", fake={"paced": True})
    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(play, server, LONG, wait=wait) for wait in ("done", "played")]
        assert settle(lambda: queued(server) == 2)
        server.client.post("/v1/audio/play/stop")
        assert [each.result()["state"] for each in waiting] == ["stopped", "stopped"]


def test_a_hang_up_takes_the_order_back(serve: Serve) -> None:
    server = serve(playback="null", fake={"paced": True})
    raw = server.raw_post("/v1/audio/play", {"input": "A runawayword.", "wait": "done"})
    assert settle(lambda: state(server)["playing"])
    raw.close()
    assert settle(lambda: queued(server) == 0)
    assert settle(lambda: server.idle)
    assert server.steps_stop()


def test_what_has_begun_goes_on_when_its_client_has_its_answer(serve: Serve) -> None:
    server = serve(playback="null", fake={"paced": True})
    play(server, SHORT, wait="start")
    server.client.close()
    assert settle(lambda: server.idle)
    assert server.service.cache.stats.entries == 1


def test_a_full_queue_refuses_and_says_when(desk: LiveServer) -> None:
    for _ in range(3):
        play(desk, LONG, wait="start")
    refused = desk.speak("/v1/audio/play")
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "busy"
    assert int(refused.headers["retry-after-ms"]) >= 500


def test_a_failure_in_the_middle_does_not_hold_up_the_next(desk: LiveServer) -> None:
    failed = desk.speak("/v1/audio/play", input="This has a failword in it.")
    assert failed.status_code == 500
    assert failed.json()["error"]["code"] == "engine_error"
    assert play(desk, SHORT, wait="played")["state"] == "played"


def test_a_wrong_request_is_refused_and_leaves_no_place_taken(desk: LiveServer) -> None:
    assert desk.speak("/v1/audio/play", voice="nobody").status_code == 400
    assert desk.speak("/v1/audio/play", wait="never").json()["error"]["param"] == "wait"
    assert desk.speak("/v1/audio/play", model="gpt-9").status_code == 404
    assert settle(lambda: queued(desk) == 0)


def test_a_body_that_does_not_say_json_is_refused(desk: LiveServer) -> None:
    for path in ("/v1/audio/play", "/"):
        answer = desk.client.post(path, content=b'{"input": "Hi.", "text": "Hi."}')
        assert (answer.status_code, queued(desk)) == (400, 0)


def test_timings_and_fields_without_effect_are_told(desk: LiveServer) -> None:
    answer = desk.speak("/v1/audio/play", wait="played", sample_rate=8_000, response_format="mp3")
    assert answer.headers["X-Ignored-Fields"] == "response_format, sample_rate"
    names = [part.partition(";")[0].strip() for part in answer.headers["Server-Timing"].split(",")]
    assert names == ["queue", "first", "total", "playback"]
    assert answer.headers["X-Cache"] == "miss"
    again = desk.speak("/v1/audio/play", wait="start")
    assert again.headers["X-Cache"] == "hit"


def test_a_device_that_is_gone_is_said(desk: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    playing = desk.server._context.playing
    assert playing is not None

    def gone(*_: Any) -> Any:
        raise PlaybackError("No usable audio device: planted.")

    monkeypatch.setattr(playing.queue, "_open_playback", gone)
    answer = desk.speak("/v1/audio/play", wait="played")
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "playback_error"
    monkeypatch.setattr(playing.queue, "_open_playback", NullPlayer)
    assert play(desk, wait="played")["state"] == "played"


def test_what_fails_after_the_answer_is_told_by_the_state(serve: Serve) -> None:
    server = serve(playback="null", fake={"paced": True})
    began_s = time.time()
    for _ in range(10):
        play(server, "Words, a failword.", wait="start")
        assert settle(lambda: server.idle)
        server.client.post("/v1/audio/play/stop")
    assert settle(lambda: len(state(server)["failures"]) == 8)
    told = state(server)["failures"]
    assert {failure["code"] for failure in told} == {"engine_error"}
    assert told[-1]["message"]
    assert began_s - 1 <= told[0]["at"] <= told[-1]["at"] <= time.time() + 1


def test_what_an_answer_has_told_is_no_news(desk: LiveServer) -> None:
    assert desk.speak("/v1/audio/play", input="A failword.").status_code == 500
    assert desk.speak("/v1/audio/play", voice="nobody").status_code == 400
    play(desk, LONG, wait="start")
    desk.client.post("/v1/audio/play/stop")
    assert settle(lambda: queued(desk) == 0)
    assert state(desk)["failures"] == []


def test_a_device_that_goes_away_after_the_answer_is_told(
    desk: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Breaks(NullPlayer):
        def finish(self) -> None:
            super().finish()
            raise PlaybackError("The device went away.")

    monkeypatch.setattr(desk.server._context.playing.queue, "_open_playback", Breaks)  # type: ignore[union-attr]
    play(desk, SHORT, wait="done")
    assert settle(lambda: bool(state(desk)["failures"]))
    (failure,) = state(desk)["failures"]
    assert (failure["code"], failure["message"]) == ("playback_error", "The device went away.")


def test_a_text_that_would_wait_too_long_is_ended_and_says_so(
    desk: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[int] = []

    class Noted(NullPlayer):
        def finish(self) -> None:
            super().finish()
            heard.append(self.played_samples)

    monkeypatch.setattr(desk.server._context.playing.queue, "_open_playback", Noted)  # type: ignore[union-attr]
    monkeypatch.setattr(play_queue, "MAX_BEHIND_S", 1.0)
    refused = desk.speak("/v1/audio/play", input=f"{LONG} {LONG}")
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "busy")
    assert settle(lambda: queued(desk) == 0 and desk.idle)
    assert len(heard) == 1 and heard[0] > 24_000  # a second


def test_a_server_that_cannot_play_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise PlaybackError("The PortAudio library is missing.")

    monkeypatch.setattr(play_room, "_load_sounddevice", missing)
    with pytest.raises(PlaybackError, match="PortAudio"):
        server_room.run(Settings(engine="fake", port=0, playback="device"))


def test_where_playback_is_off_the_paths_say_so(server: LiveServer) -> None:
    ask: list[Callable[[], Any]] = [
        lambda: server.speak("/v1/audio/play"),
        lambda: server.client.post("/v1/audio/play/skip"),
        lambda: server.client.post("/v1/audio/play/stop"),
        lambda: server.client.get("/v1/audio/play"),
        lambda: server.client.post("/", json={"text": "Hello."}),
    ]
    for each in ask:
        answer = each()
        assert answer.status_code == 404
        assert "playback=device" in answer.json()["error"]["message"]


def test_speaking_on_somebodys_desk_needs_the_key(serve: Serve) -> None:
    server = serve(playback="null", api_keys=("k",))
    assert server.client.get("/").status_code == 200
    assert server.client.post("/", json={"text": "Hi."}).status_code == 401
    assert server.speak("/v1/audio/play").status_code == 401
    answer = server.client.post("/", json={"text": "Hi."}, headers={"X-API-Key": "k"})
    assert answer.status_code == 200


def test_closing_the_server_falls_silent(serve: Serve) -> None:
    server = serve(playback="null")
    play(server, LONG)
    playing = server.server._context.playing
    assert playing is not None
    began_s = time.monotonic()
    server.stop()
    assert time.monotonic() - began_s < 2.5
    assert playing.queue.state.turns == 0


class TestTheOlderPath:
    """``POST /`` with ``{text, voice, output}``."""

    def test_it_plays_writes_and_answers_as_it_used_to(
        self, desk: LiveServer, tmp_path: Path
    ) -> None:
        fields = {"text": SHORT, "voice": "bass", "output": "hello.wav"}
        answer = desk.client.post("/", json=fields)
        assert answer.status_code == 200
        assert answer.json()["status"] == "ok"
        assert answer.json()["output"] == "hello.wav"
        assert answer.headers["X-Vivavoce-Voice"] == "bass"
        samples, rate_hz = decode_audio((tmp_path / "out" / "hello.wav").read_bytes())
        assert len(samples) / rate_hz == pytest.approx(answer.json()["audio_s"], abs=0.001)
        assert np.abs(samples).max() > 0.3
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["hello.wav"]

    def test_its_defaults(self, desk: LiveServer, serve: Serve, tmp_path: Path) -> None:
        assert desk.client.post("/", json={"text": SHORT}).json()["output"] == "tts_output.wav"
        assert (tmp_path / "out" / "tts_output.wav").is_file()
        bare = serve(playback="null")
        assert bare.client.post("/", json={"text": SHORT}).json()["output"] is None

    def test_the_ending_names_the_format(self, desk: LiveServer, tmp_path: Path) -> None:
        for name, magic in (("a.flac", b"fLaC"), ("b.ogg", b"OggS"), ("c", b"RIFF")):
            assert desk.client.post("/", json={"text": SHORT, "output": name}).status_code == 200
            assert (tmp_path / "out" / name).read_bytes().startswith(magic)
            desk.client.post("/v1/audio/play/stop")
        refused = desk.client.post("/", json={"text": SHORT, "output": "d.exe"})
        assert refused.status_code == 400

    def test_with_start_the_file_comes_later(self, serve: Serve, tmp_path: Path) -> None:
        out = tmp_path / "later"
        server = serve(playback="null", output_dir=out, fake={"paced": True})
        fields = {"text": SHORT, "output": "late.wav", "wait": "start"}
        assert server.client.post("/", json=fields).json()["state"] == "started"
        assert list(out.iterdir()) == []
        assert settle((out / "late.wav").is_file)

    def test_a_failed_or_stopped_one_leaves_no_file(self, serve: Serve, tmp_path: Path) -> None:
        out = tmp_path / "none"
        server = serve(playback="null", output_dir=out, fake={"paced": True})
        assert server.client.post("/", json={"text": "A failword."}).status_code == 500
        assert settle(lambda: queued(server) == 0)
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(server.client.post, "/", json={"text": LONG})
            assert settle(lambda: queued(server) == 1)
            server.client.post("/v1/audio/play/stop")
            answered = waiting.result().json()
        assert (answered["status"], answered["output"]) == ("stopped", None)
        assert list(out.iterdir()) == []

    @pytest.mark.parametrize("body", [{}, {"text": ""}, {"text": "  "}, {"text": 3}])
    def test_without_text_it_is_a_400(self, desk: LiveServer, body: dict[str, Any]) -> None:
        assert desk.client.post("/", json=body).status_code == 400

    @pytest.mark.parametrize(
        "name",
        [
            "../stolen.wav", "/tmp/stolen.wav", "a/../../stolen.wav", "link/stolen.wav", "..", ".",
            "missing/folder.wav", "link", "zero\0.wav", "x" * 300 + "/y.wav", "sub",
        ],
    )  # fmt: skip
    def test_no_file_outside_of_its_folder(
        self, desk: LiveServer, tmp_path: Path, name: str
    ) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (tmp_path / "out" / "link").symlink_to(outside)
        (tmp_path / "out" / "sub").mkdir()
        answer = desk.client.post("/", json={"text": SHORT, "output": name})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "output"
        assert queued(desk) == 0
        assert list(outside.iterdir()) == []

    def test_a_link_is_replaced_not_followed(self, desk: LiveServer, tmp_path: Path) -> None:
        victim = tmp_path / "victim.wav"
        victim.write_bytes(b"mine")
        link = tmp_path / "out" / "a.wav"
        link.symlink_to(victim)
        assert desk.client.post("/", json={"text": SHORT, "output": "a.wav"}).status_code == 200
        assert victim.read_bytes() == b"mine"
        assert not link.is_symlink()

    def test_a_whole_path_inside_of_the_folder_is_taken(
        self, desk: LiveServer, tmp_path: Path
    ) -> None:
        (tmp_path / "out" / "sub").mkdir()
        inside = str(tmp_path / "out" / "sub" / "a.wav")
        answer = desk.client.post("/", json={"text": SHORT, "output": inside})
        assert answer.json()["output"] == inside
        assert Path(inside).is_file()

    def test_a_name_that_is_too_long_is_refused(self, desk: LiveServer) -> None:
        answer = desk.client.post("/", json={"text": SHORT, "output": "x" * 300 + ".wav"})
        assert answer.status_code == 400

    def test_a_file_that_cannot_be_written_is_said_and_leaves_nothing(
        self, desk: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(self: Path, target: Path) -> Path:
            raise OSError(ENOSPC, "No space left on device")

        monkeypatch.setattr(Path, "replace", full)
        answer = desk.client.post("/", json={"text": SHORT, "output": "a.wav"})
        assert answer.status_code == 500
        assert "a.wav cannot be written: No space" in answer.json()["error"]["message"]
        assert list((tmp_path / "out").iterdir()) == []

    def test_without_a_folder_no_output_is_taken(self, serve: Serve) -> None:
        server = serve(playback="null")
        answer = server.client.post("/", json={"text": SHORT, "output": "a.wav"})
        assert answer.status_code == 400
        assert "output_dir" in answer.json()["error"]["message"]
