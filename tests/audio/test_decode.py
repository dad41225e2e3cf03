import io
import struct
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio import recordings
from audio.sounds import snr_db, tone
from vivavoce.audio.decode import MAX_RATE_HZ, decode_audio, read_audio_file
from vivavoce.audio.encode import make_encoder, wav_file
from vivavoce.errors import InvalidAudio

HZ = 24_000
SOUND = tone(1.0, HZ)
WAV = wav_file(SOUND, HZ)
PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"
FILE_LIST = b"ffconcat version 1.0\nfile '/etc/hostname'\n"
SESSION = b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n"


def written(muxer: str, codec: str, layout: str, sample_format: str, values: np.ndarray) -> bytes:
    """A file of packed samples (1, n * channels), made by PyAV."""
    file = io.BytesIO()
    with av.open(file, "w", format=muxer) as container:
        stream = container.add_stream(codec, rate=HZ, layout=layout)
        frame = av.AudioFrame.from_ndarray(values, format=sample_format, layout=layout)
        frame.sample_rate = HZ
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def encoded(name: str) -> bytes:
    encoder = make_encoder(name, HZ)
    return encoder.push(SOUND) + encoder.finish()


def video_only() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return file.getvalue()


def with_field(offset: int, layout: str, value: int) -> bytes:
    """The WAV file with one field of its header overwritten."""
    data = bytearray(WAV)
    struct.pack_into(layout, data, offset, value)
    return bytes(data)


def test_a_wav_comes_back_at_its_own_rate() -> None:
    samples, rate_hz = decode_audio(WAV)
    assert rate_hz == HZ
    assert samples.dtype == np.float32
    assert np.abs(samples - SOUND).max() <= 1 / 32768


@pytest.mark.parametrize("name", ["mp3", "opus", "ogg", "aac", "flac", "wav"])
def test_our_own_formats_can_be_read(name: str) -> None:
    samples, rate_hz = decode_audio(encoded(name))
    assert len(samples) / rate_hz == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("muxer", "codec"),
    [
        ("ipod", "aac"),
        ("webm", "libopus"),
        ("aiff", "pcm_s16be"),
        ("caf", "pcm_s16be"),
        ("au", "pcm_s16be"),
        ("mov", "pcm_s16le"),
        ("wav", "pcm_mulaw"),
        ("wav", "pcm_s24le"),
    ],
)
def test_other_usual_formats_can_be_read(muxer: str, codec: str) -> None:
    values = (SOUND * 32767).astype(np.int16)[None]
    samples, rate_hz = decode_audio(written(muxer, codec, "mono", "s16", values))
    assert len(samples) / rate_hz == pytest.approx(1.0, abs=0.1)
    assert np.abs(samples).max() == pytest.approx(0.3, abs=0.06)


def test_channels_are_averaged() -> None:
    both = np.stack([SOUND, -SOUND / 3], axis=1).reshape(1, -1)
    samples, _ = decode_audio(written("wav", "pcm_f32le", "stereo", "flt", both))
    assert np.abs(samples - SOUND / 3).max() < 1e-6


def test_loud_floats_are_clipped() -> None:
    samples, _ = decode_audio(written("wav", "pcm_f32le", "mono", "flt", SOUND[None] * 10))
    assert samples.max() == 1.0


def test_samples_that_are_no_numbers_are_refused() -> None:
    broken = SOUND[None].copy()
    broken[0, 500] = np.nan
    with pytest.raises(InvalidAudio, match="not numbers"):
        decode_audio(written("wav", "pcm_f32le", "mono", "flt", broken))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "0 bytes"),
        (b"This is a text that was renamed.\n" * 50, "cannot be decoded"),
        (bytes(range(256)) * 20, "cannot be decoded"),
        (wav_file(SOUND[:0], HZ), "no sound"),
        (video_only(), "no sound"),
        (WAV[:30], "cut off"),
        (WAV[: len(WAV) // 2], "cut off"),
        (encoded("flac")[:4_000], "cannot be decoded|cut off"),
        (PLAYLIST, "cannot be decoded"),
        (FILE_LIST, "cannot be decoded"),
        (SESSION, "cannot be decoded"),
        (with_field(24, "<I", 100), "100 Hz"),
        (with_field(22, "<H", 60_000), "channels"),
    ],
    ids=[
        "nothing",
        "text",
        "any bytes",
        "no samples",
        "no audio stream",
        "half a header",
        "half a wav",
        "half a flac",
        "hls playlist",
        "list of files",
        "session description",
        "absurd rate",
        "absurd channels",
    ],
)
def test_bad_recordings_are_refused_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidAudio, match=reason) as caught:
        decode_audio(data, param="ref_audio")
    assert caught.value.param == "ref_audio"


def test_a_playlist_named_as_sound_opens_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "secret.wav").write_bytes(WAV)
    for text in (f"ffconcat version 1.0\nfile '{tmp_path}/secret.wav'\n", f"#EXTM3U\n{tmp_path}"):
        with pytest.raises(InvalidAudio):
            decode_audio(text.encode())


def test_too_long_and_too_large_are_refused() -> None:
    with pytest.raises(InvalidAudio, match=r"longer than 0.5 s"):
        decode_audio(WAV, max_duration_s=0.5)
    with pytest.raises(InvalidAudio, match="at most 1000"):
        decode_audio(WAV, max_bytes=1_000)
    assert len(decode_audio(WAV, max_duration_s=1.0)[0]) == HZ


def test_files_are_read_from_disk(tmp_path: Path) -> None:
    path = tmp_path / "voice.wav"
    path.write_bytes(WAV)
    assert len(read_audio_file(path)[0]) == HZ
    with pytest.raises(InvalidAudio, match="Cannot read"):
        read_audio_file(tmp_path / "missing.wav")
    with pytest.raises(InvalidAudio, match="Cannot read"):
        read_audio_file(tmp_path)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(["mp3", "opus", "aac", "flac", "wav"]),
    changes=st.lists(st.tuples(st.integers(0, 150), st.integers(0, 255)), max_size=8),
    share=st.floats(0, 1),
)
def test_damaged_files_are_read_or_refused(
    name: str, changes: list[tuple[int, int]], share: float
) -> None:
    data = bytearray(encoded(name))
    for at, value in changes:
        data[at] = value
    try:
        samples, rate_hz = decode_audio(bytes(data[: int(len(data) * share)]))
    except InvalidAudio:
        return
    assert np.isfinite(samples).all()
    assert 0 < len(samples) <= 60 * rate_hz


@pytest.mark.parametrize("layout", ["stereo", "quad", "5.1", "6.1", "7.1", "octagonal"])
@pytest.mark.parametrize(
    ("muxer", "codec", "rate_hz"),
    [
        ("flac", "flac", HZ),
        ("wav", "pcm_s16le", HZ),
        ("wav", "pcm_f32le", HZ),
        ("ipod", "aac", HZ),
        ("ogg", "libopus", 48_000),
        ("webm", "libopus", 48_000),
        ("matroska", "ac3", 48_000),
    ],
)
def test_up_to_eight_channels_are_averaged_and_crash_nothing(
    muxer: str, codec: str, rate_hz: int, layout: str
) -> None:
    sound = tone(1.0, rate_hz)
    try:
        data = recordings.written(muxer, codec, sound, rate_hz, layout)
    except av.error.ArgumentError:
        assert codec in ("ac3", "libopus"), "only these do not know every layout"
        return
    samples, found_hz = decode_audio(data)
    assert found_hz == rate_hz
    assert len(samples) / rate_hz == pytest.approx(1.0, abs=0.1)
    assert np.abs(samples).max() == pytest.approx(0.3, abs=0.08)


def test_a_frame_with_other_channels_than_the_header_crashes_nothing() -> None:
    with pytest.raises(InvalidAudio, match="47 channels"):
        decode_audio(recordings.CHANGING_CHANNELS)


def test_channels_may_change_in_the_middle() -> None:
    """ADTS has a header for every frame; nothing keeps them the same."""
    mono, stereo = (
        recordings.written("adts", "aac", tone(1.0, HZ), HZ, layout)
        for layout in ("mono", "stereo")
    )
    samples, rate_hz = decode_audio(mono + stereo + mono)
    assert len(samples) / rate_hz == pytest.approx(3.0, abs=0.3)


def test_the_rate_may_change_in_the_middle_and_the_pitch_does_not() -> None:
    parts = [recordings.written("adts", "aac", tone(1.0, hz), hz) for hz in (HZ, 48_000, 16_000)]
    samples, rate_hz = decode_audio(b"".join(parts))
    assert rate_hz == HZ
    for second in range(3):
        part = samples[int((second + 0.4) * HZ) : int((second + 0.8) * HZ)]
        spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part))))
        assert spectrum.argmax() * HZ / len(part) == pytest.approx(440, abs=5)


@pytest.mark.parametrize("rate_hz", [88_200, 96_000, 192_000])
def test_a_high_rate_is_brought_down_while_decoding(rate_hz: int) -> None:
    sound = tone(2.0, rate_hz)
    samples, found_hz = decode_audio(recordings.written("flac", "flac", sound, rate_hz))
    assert found_hz == MAX_RATE_HZ
    assert len(samples) == 2 * MAX_RATE_HZ
    middle = slice(MAX_RATE_HZ // 2, MAX_RATE_HZ)
    assert snr_db(tone(2.0, MAX_RATE_HZ)[middle], samples[middle]) > 60


def test_a_high_rate_does_not_stretch_the_bound_on_duration() -> None:
    data = recordings.written("flac", "flac", tone(3.0, 192_000), 192_000)
    with pytest.raises(InvalidAudio, match=r"longer than 2.5 s"):
        decode_audio(data, max_duration_s=2.5)
    assert len(decode_audio(data, max_duration_s=3.0)[0]) == 3 * MAX_RATE_HZ


def test_decoders_that_nobody_needs_are_not_reached() -> None:
    with pytest.raises(InvalidAudio, match="'tta'"):
        decode_audio(recordings.written("matroska", "tta", SOUND, HZ))


def test_a_cover_picture_does_no_harm() -> None:
    sound = (SOUND * 32767).astype(np.int16)[None]
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        picture = container.add_stream("mjpeg", rate=1)
        picture.width = picture.height = 64
        picture.pix_fmt = "yuvj420p"
        stream = container.add_stream("aac", rate=HZ, layout="mono")
        shown = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        heard = av.AudioFrame.from_ndarray(sound, format="s16", layout="mono")
        heard.sample_rate = HZ
        container.mux(picture.encode(shown))
        container.mux(stream.encode(heard))
        container.mux(picture.encode(None))
        container.mux(stream.encode(None))
    samples, rate_hz = decode_audio(file.getvalue())
    assert len(samples) / rate_hz == pytest.approx(1.0, abs=0.1)


def test_names_in_another_encoding_do_no_harm() -> None:
    title = b"TIT2\0\0\0\x06\0\0\0Stra\xdf"
    tag = b"ID3\x03\0\0\0\0\0" + bytes([len(title)]) + title
    samples, rate_hz = decode_audio(tag + encoded("mp3"))
    assert len(samples) / rate_hz == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("name", recordings.FORMATS)
def test_seeded_mutants_are_read_or_refused(name: str) -> None:
    whole = recordings.recording(name, 0.3)
    for seed in range(40):
        try:
            samples, rate_hz = decode_audio(recordings.mutant(whole, seed))
        except InvalidAudio:
            continue
        assert np.isfinite(samples).all()
        assert 0 < len(samples) <= 60 * rate_hz <= 60 * MAX_RATE_HZ
