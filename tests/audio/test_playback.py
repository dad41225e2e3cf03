import builtins
import sys
import threading
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from audio.sounds import tone
from vivavoce.audio.playback import NullPlayer, Player, SampleQueue
from vivavoce.errors import MissingExtra, PlaybackError
from vivavoce.types import AudioChunk

HZ = 24_000


def chunk(duration_s: float, sample_rate_hz: int = HZ) -> AudioChunk:
    return AudioChunk(tone(duration_s, sample_rate_hz), sample_rate_hz)


class DeviceFault(Exception):
    """Stands for sounddevice.PortAudioError."""


class End(Exception):
    """Stands for sounddevice.CallbackStop."""


class FakeDevice:
    """A sound device that plays only when told to."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.heard: list[np.ndarray] = []
        self.active = False
        self.calls: list[str] = []

    def start(self) -> None:
        self.active = True

    def play(self, frames: int) -> None:
        out = np.full((frames, 1), 9.0, np.float32)
        try:
            self.options["callback"](out, frames, None, None)
        except End:
            self.active = False
            self.options["finished_callback"]()
        self.heard.append(out[:, 0])

    def abort(self) -> None:
        if "close" in self.calls:
            raise DeviceFault("Invalid stream pointer")
        self.calls.append("abort")

    def close(self) -> None:
        if "close" not in self.calls:
            self.calls.append("close")


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A sounddevice module whose devices take 48,000 Hz and, when told so, any rate."""
    made = SimpleNamespace(opened=[], any_rate=True, present=True)

    def open_stream(**options: Any) -> FakeDevice:
        if not made.present:
            raise DeviceFault("Error querying device -1")
        made.opened.append(FakeDevice(**options))
        return made.opened[-1]

    def check(**options: Any) -> None:
        if not made.any_rate and options["samplerate"] != 48_000:
            raise DeviceFault("Invalid sample rate")

    module = ModuleType("sounddevice")
    module.__dict__.update(
        OutputStream=open_stream,
        check_output_settings=check,
        query_devices=lambda kind: {"default_samplerate": 48_000.0},
        PortAudioError=DeviceFault,
        CallbackStop=End,
    )
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return made


def failing_import(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    real = builtins.__import__

    def load(name: str, *rest: Any) -> Any:
        if name == "sounddevice":
            raise error
        return real(name, *rest)

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(builtins, "__import__", load)


def test_sound_reaches_the_device_in_order_and_then_silence(devices: SimpleNamespace) -> None:
    player = Player(HZ)
    (device,) = devices.opened
    assert device.options["samplerate"] == HZ
    player.push(chunk(0.010))
    player.push(chunk(0.005))
    for _ in range(4):
        device.play(100)
    heard = np.concatenate(device.heard)
    wanted = np.concatenate([tone(0.010, HZ), tone(0.005, HZ)])
    assert np.array_equal(heard[:360], wanted)
    assert not heard[360:].any()
    assert player.underruns == 1


def test_finish_waits_until_all_is_played(devices: SimpleNamespace) -> None:
    player = Player(HZ)
    player.push(chunk(0.010))
    waiting = threading.Thread(target=player.finish)
    waiting.start()
    device = devices.opened[0]
    device.play(200)
    assert waiting.is_alive()
    while device.active:
        device.play(200)
    waiting.join(10)
    assert not waiting.is_alive()
    assert device.calls == ["close"]
    assert player.underruns == 0


def test_finish_says_that_the_device_is_gone(devices: SimpleNamespace) -> None:
    player = Player(HZ)
    player.push(chunk(0.010))
    devices.opened[0].active = False
    with pytest.raises(PlaybackError, match="went away"):
        player.finish()
    assert devices.opened[0].calls == ["close"]


def test_stop_falls_silent_at_once(devices: SimpleNamespace) -> None:
    player = Player(HZ)
    player.push(chunk(1.0))
    player.stop()
    assert player.queued_s == 0
    assert devices.opened[0].calls == ["abort", "close"]
    player.push(chunk(1.0))
    assert player.queued_s == 0


def test_dropping_lets_finish_end(devices: SimpleNamespace) -> None:
    player = Player(HZ)
    player.push(chunk(100.0))
    device = devices.opened[0]
    waiting = threading.Thread(target=player.finish)
    waiting.start()
    player.drop()
    device.play(10)
    waiting.join(10)
    assert not waiting.is_alive()
    assert not np.concatenate(device.heard).any()


def test_a_device_that_was_pulled_out_may_refuse_to_close(
    devices: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: FakeDevice) -> None:
        raise DeviceFault("Device unavailable")

    monkeypatch.setattr(FakeDevice, "close", fail)
    Player(HZ).stop()


def test_stopping_and_finishing_again_do_no_harm(devices: SimpleNamespace) -> None:
    player = Player(HZ)
    player.stop()
    player.stop()
    player.finish()
    assert devices.opened[0].calls == ["abort", "close"]


def test_a_device_that_refuses_the_rate_gets_its_own(devices: SimpleNamespace) -> None:
    devices.any_rate = False
    player = Player(22_050)
    assert devices.opened[0].options["samplerate"] == 48_000
    player.push(AudioChunk(tone(1.0, 22_050), 22_050))
    assert player.queued_s == pytest.approx(1.0, abs=0.1)


def test_no_device_is_said_clearly(devices: SimpleNamespace) -> None:
    devices.present = False
    with pytest.raises(PlaybackError, match="No usable audio device"):
        Player(HZ)


def test_without_sounddevice_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    failing_import(monkeypatch, ImportError("No module named 'sounddevice'"))
    with pytest.raises(MissingExtra, match=r"vivavoce\[playback\]"):
        Player(HZ)


def test_without_portaudio_the_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    failing_import(monkeypatch, OSError("PortAudio library not found"))
    with pytest.raises(PlaybackError, match="PortAudio"):
        Player(HZ)


def test_another_sample_rate_is_refused() -> None:
    with NullPlayer(HZ, real_time=False) as sink, pytest.raises(PlaybackError, match="8000 Hz"):
        sink.push(chunk(0.1, 8_000))


def test_a_full_queue_is_refused_and_room_can_be_waited_for(devices: SimpleNamespace) -> None:
    player = Player(HZ, max_queued_s=1.0)
    player.push(chunk(1.5))
    with pytest.raises(PlaybackError, match="behind"):
        player.push(chunk(0.1))
    assert not player.wait_for_room(timeout_s=0)
    devices.opened[0].play(HZ)
    assert player.wait_for_room(timeout_s=0)


def test_the_null_sink_takes_everything_in_the_end() -> None:
    with NullPlayer(HZ, real_time=False) as sink:
        for _ in range(10):
            sink.push(chunk(0.123))
    assert sink.played_samples == 10 * round(0.123 * HZ)


def test_the_null_sink_in_real_time_takes_everything_too() -> None:
    with NullPlayer(HZ) as sink:
        sink.push(chunk(0.1))
    assert sink.played_samples == round(0.1 * HZ)


def test_the_null_sink_stops_at_once() -> None:
    sink = NullPlayer(HZ)
    sink.push(chunk(100.0))
    sink.stop()
    sink.stop()
    assert sink.played_samples < 100 * HZ


def test_the_null_sink_may_be_dropped_from_outside() -> None:
    with NullPlayer(HZ) as sink:
        sink.push(chunk(100.0))
        sink.drop()
    assert sink.played_samples < 100 * HZ


def test_an_exception_stops_playback(devices: SimpleNamespace) -> None:
    with pytest.raises(KeyError), Player(HZ) as player:
        player.push(chunk(1.0))
        raise KeyError
    assert devices.opened[0].calls == ["abort", "close"]


def test_queue_hands_on_parts_of_pieces() -> None:
    queue = SampleQueue()
    queue.put(np.arange(5, dtype=np.float32))
    queue.put(np.arange(5, 7, dtype=np.float32))
    out = np.zeros(3, np.float32)
    assert [queue.take_into(out) for _ in range(3)] == [3, 3, 1]
    assert out.tolist() == [6, 0, 0]
    queue.end()
    assert queue.drained
