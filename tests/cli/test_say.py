from __future__ import annotations

import io
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest

from vivavoce.audio import playback


def frames(path: Path) -> int:
    """Samples of a WAV file; fails where its header does not fit its length."""
    with wave.open(str(path)) as file:
        count = file.getnframes()
        assert path.stat().st_size == 44 + 2 * count
        return count


def test_wav_file_is_exact(vivavoce: Callable[..., Any], tmp_path: Path) -> None:
    output = tmp_path / "out.wav"
    assert vivavoce("say", "Hello there.", "-o", str(output)).status == 0
    assert frames(output) > 24_000 // 2
    assert [path.name for path in tmp_path.glob("*") if path.is_file()] == ["out.wav"]


@pytest.mark.parametrize("encoding", ["mp3", "opus", "ogg", "aac", "flac"])
def test_format_follows_the_ending(
    vivavoce: Callable[..., Any], tmp_path: Path, encoding: str
) -> None:
    output, reference = tmp_path / f"out.{encoding}", tmp_path / "out.wav"
    assert vivavoce("say", "Hello there.", "-o", str(reference)).status == 0
    assert vivavoce("say", "Hello there.", "-o", str(output)).status == 0
    with av.open(str(output)) as container:
        sound = [frame.samples / frame.sample_rate for frame in container.decode(audio=0)]
    assert sum(sound) == pytest.approx(frames(reference) / 24_000, abs=0.1)


def test_sample_rate_format_and_standard_output(
    vivavoce: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", out)
    ran = vivavoce("say", "-o", "-", "--format", "ulaw", stdin=b"Hello there.")
    assert ran.status == 0
    sound = out.buffer.getvalue()  # type: ignore[attr-defined]
    out = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", out)
    vivavoce("say", "-o", "-", "--format", "pcm", "--sample-rate", "8000", stdin=b"Hello there.")
    pcm = out.buffer.getvalue()  # type: ignore[attr-defined]
    assert len(pcm) > 8_000
    assert len(sound) in (len(pcm) // 2, len(pcm) // 2 * 3)


def test_speed_voice_and_file(vivavoce: Callable[..., Any], tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Hello there.", encoding="utf-8")
    slow, fast = tmp_path / "slow.wav", tmp_path / "fast.wav"
    vivavoce("say", "-f", str(text), "-o", str(slow), "--voice", "bass")
    vivavoce("say", "-f", str(text), "-o", str(fast), "--voice", "nova", "--speed", "2")
    assert frames(fast) < 0.7 * frames(slow)


def test_a_failure_leaves_no_file(vivavoce: Callable[..., Any], tmp_path: Path) -> None:
    output = tmp_path / "out.wav"
    output.write_bytes(b"before")
    ran = vivavoce("say", "This is a failword here.", "-o", str(output))
    assert ran.status == 1
    assert "told to fail" in ran.err
    assert output.read_bytes() == b"before"
    assert list(tmp_path.glob("*.part")) == []
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("Hello.", "-o", "x.xyz"), 2, ".xyz"),
        (("Hello.", "-o", "x.wav", "--play"), 2, "--play"),
        (("Hello.", "--format", "wav"), 2, "-o"),
        (("...", "-o", "x.wav"), 2, "nothing that can be spoken"),
        (("Hello.", "-o", "x.wav", "--voice", "nobody"), 2, "alto"),
        (("Hello.", "-o", "x.wav", "--speed", "9"), 2, "speed"),
        (("Hello.", "-o", "x.wav", "--sample-rate", "7999"), 2, "sample rate"),
        (("Hello.", "-o", "x.wav", "--option", "depth=1"), 2, "depth"),
        (("Hello.", "-o", "x.wav", "--engine", "nothing"), 3, "Known engines"),
        (("Hello.", "-o", "no/such/folder/x.wav"), 1, "No such file"),
    ],
)
def test_wrong_input_is_one_clear_line(
    vivavoce: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    status: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = vivavoce("say", *arguments)
    assert (ran.status, ran.err.count("\n")) == (status, 1), ran.err
    assert said in ran.err
    assert not list(tmp_path.glob("*.*"))


def test_texts_longer_than_the_server_takes(
    vivavoce: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_INPUT_CHARS", "10")
    assert vivavoce("say", "A good deal longer.", "-o", str(tmp_path / "x.wav")).status == 0


def test_play_hands_over_every_sample(
    vivavoce: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    players: list[playback.NullPlayer] = []

    def player(sample_rate_hz: int) -> playback.NullPlayer:
        players.append(playback.NullPlayer(sample_rate_hz, real_time=False))
        return players[-1]

    monkeypatch.setattr(playback, "Player", player)
    assert vivavoce("say", "Hello there.").status == 0
    vivavoce("say", "Hello there.", "-o", str(tmp_path / "x.wav"))
    assert players[0].played_samples == frames(tmp_path / "x.wav")


def test_no_loudspeaker_suggests_a_file(
    vivavoce: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def player(_: int) -> None:
        raise playback.PlaybackError("No usable audio device.")

    monkeypatch.setattr(playback, "Player", player)
    ran = vivavoce("say", "Hello there.", "--play")
    assert ran.status == 3
    assert "-o FILE" in ran.err


def test_progress_of_long_texts_goes_to_the_terminal_only(
    vivavoce: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "One sentence more. " * 30
    output = ("-o", str(tmp_path / "x.wav"))
    assert vivavoce("say", text, *output).err == ""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    vivavoce("say", text, *output)
    assert "100%" in terminal.getvalue()


def test_an_interrupt_leaves_no_file(tmp_path: Path) -> None:
    output = tmp_path / "out.wav"
    # Where the tests run as a background job, interrupts are ignored unless asked for.
    script = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from vivavoce.cli.main import main; main()"
    )
    command = [sys.executable, "-c", script, "say", "-o", str(output), "Hello. " * 5_000]
    slow = ["--engine", "fake", "--set", "fake.step_ms=20"]
    with subprocess.Popen([*command, *slow], stderr=subprocess.PIPE) as process:
        while not list(tmp_path.glob(".out.wav.*")) and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, b"")
    assert list(tmp_path.glob("*out*")) == list(tmp_path.glob(".out*")) == []


def test_a_reader_that_goes_away_stops_the_speech() -> None:
    say = f"{sys.executable} -m vivavoce.cli say --engine fake -o -"
    ran = subprocess.run(
        f"{say} '{'Hello. ' * 3_000}' | head -c 100 >/dev/null; exit ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", capture_output=True, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (141, b"")
