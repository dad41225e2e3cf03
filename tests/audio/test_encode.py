import io
import struct
from collections.abc import Iterator

import av
import numpy as np
import pytest

from audio.sounds import cut, tone
from vivavoce.audio.encode import delivered_format, encode_whole, make_encoder, wav_file
from vivavoce.audio.formats import ENCODINGS, Encoder, container_rate_hz
from vivavoce.audio.pcm import to_bytes
from vivavoce.errors import InputError
from vivavoce.types import Samples

RATE_HZ = 22_050
TONE = (0.3 * np.sin(np.arange(RATE_HZ) * 0.1)).astype(np.float32)
RAW_DEMUXERS = {"pcm": "s16le", "ulaw": "mulaw", "alaw": "alaw"}
COMPRESSED = ["mp3", "opus", "ogg", "aac", "flac"]
LOSSLESS = ["pcm", "wav", "flac"]
# What a decoder gives beyond the sound: the codec's delay, then the rest of its last frame.
DELAY = {"mp3": 576 + 529, "aac": 1_024}
FRAME = {"mp3": 1_152, "aac": 1_024}
MIME_TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "ogg": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
    "ulaw": "audio/PCMU",
    "alaw": "audio/PCMA",
}


def encode(encoder: Encoder, pieces: list[Samples]) -> Iterator[bytes]:
    for piece in pieces:
        yield encoder.push(piece)
    yield encoder.finish()


def encoded(name: str, sound: Samples, sample_rate_hz: int, size: int = 480) -> bytes:
    return b"".join(encode(make_encoder(name, sample_rate_hz), cut(sound, [size])))


def decoded(name: str, data: bytes, sample_rate_hz: int) -> tuple[Samples, int]:
    raw = name in RAW_DEMUXERS
    options = {"sample_rate": str(sample_rate_hz)} if raw else {}
    with av.open(io.BytesIO(data), format=RAW_DEMUXERS.get(name), options=options) as container:
        to_float = av.AudioResampler(format="fltp")
        frames = [f for frame in container.decode(audio=0) for f in to_float.resample(frame)]
        assert {len(frame.layout.channels) for frame in frames} == {1}
        return np.concatenate([f.to_ndarray()[0] for f in frames]), frames[0].sample_rate


def test_the_mime_types() -> None:
    assert {name: entry.mime_type for name, entry in ENCODINGS.items()} == MIME_TYPES
    assert all(entry.streams for entry in ENCODINGS.values())


@pytest.mark.parametrize("requested_hz", [8_000, 22_050, 24_000, 48_000])
@pytest.mark.parametrize("name", list(ENCODINGS))
def test_decodes_to_the_same_sound(name: str, requested_hz: int) -> None:
    rate_hz = container_rate_hz(name, requested_hz)
    sound = tone(1.003, rate_hz, hz=500)
    got, got_hz = decoded(name, encoded(name, sound, rate_hz), rate_hz)
    assert got_hz == (48_000 if name in {"opus", "ogg"} else rate_hz)
    added = len(got) - len(sound) * got_hz / rate_hz
    assert DELAY.get(name, 0) - 1 <= added <= DELAY.get(name, 0) + FRAME.get(name, 1)
    spectrum = np.abs(np.fft.rfft(got * np.hanning(len(got))))
    assert np.argmax(spectrum) * got_hz / len(got) == pytest.approx(500, abs=2)
    assert np.sqrt(np.mean(np.square(got))) == pytest.approx(0.3 / np.sqrt(2), rel=0.15)


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_encodings_keep_every_sample(name: str) -> None:
    sound = tone(0.5, 24_000)
    got, _ = decoded(name, encoded(name, sound, 24_000, size=333), 24_000)
    assert to_bytes(got) == to_bytes(sound)


@pytest.mark.parametrize("name", ["mp3", "opus", "ogg", "aac", "flac", "wav", "pcm", "ulaw"])
def test_bytes_leave_as_sound_comes_in(name: str) -> None:
    """The first leave within 100 ms of sound, and all but a short rest before the end."""
    parts = list(encode(make_encoder(name, 24_000), cut(tone(2.0, 24_000), [480])))
    assert any(parts[:5])
    assert len(parts[-1]) <= 0.15 * sum(map(len, parts))
    with_bytes = np.flatnonzero([bool(part) for part in parts[:-1]])
    assert np.diff(with_bytes).max() <= 3


@pytest.mark.parametrize("name", list(ENCODINGS))
def test_any_chunking_decodes_to_the_same_sound(name: str) -> None:
    sound = tone(0.5, 24_000)
    whole, _ = decoded(name, encoded(name, sound, 24_000, size=len(sound)), 24_000)
    for size in (7, 1_111):
        chunked, _ = decoded(name, encoded(name, sound, 24_000, size), 24_000)
        assert np.array_equal(whole, chunked)


@pytest.mark.parametrize("name", ["opus", "ogg"])
def test_opus_sound_leaves_with_every_packet(name: str) -> None:
    parts = list(encode(make_encoder(name, 24_000), cut(tone(1.0, 24_000), [480])))
    assert all(parts)


@pytest.mark.parametrize("name", list(ENCODINGS))
def test_no_sound_at_all_and_empty_pushes(name: str) -> None:
    rate_hz = container_rate_hz(name, 24_000)
    assert isinstance(make_encoder(name, rate_hz).finish(), bytes)
    sound = tone(0.2, rate_hz)
    nothing = np.zeros(0, np.float32)
    encoder = make_encoder(name, rate_hz)
    got = b"".join(encode(encoder, [nothing, sound, nothing]))
    whole = b"".join(encode(make_encoder(name, rate_hz), [sound]))
    assert len(got) == len(whole)


@pytest.mark.parametrize("name", list(ENCODINGS))
def test_an_abandoned_encoder_closes(name: str) -> None:
    encoder = make_encoder(name, 24_000)
    encoder.push(tone(0.1, 24_000))
    encoder.close()
    encoder.close()
    assert encoder.finish() == b""


@pytest.mark.parametrize("name", ["mp3", "opus", "aac", "flac"])
def test_what_is_no_number_becomes_silence(name: str) -> None:
    sound = np.array([np.nan, np.inf, -np.inf, 9.0] * 3_000, np.float32)
    got, _ = decoded(name, encoded(name, sound, 24_000), 24_000)
    assert np.isfinite(got).all()


def test_unknown_formats_are_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"'wma'.*mp3") as caught:
        make_encoder("wma", 24_000)
    assert caught.value.param == "response_format"


@pytest.mark.parametrize(
    ("name", "requested_hz", "carried_hz"),
    [
        ("opus", 22_050, 24_000),
        ("ogg", 44_100, 48_000),
        ("opus", 8_000, 8_000),
        ("mp3", 22_050, 22_050),
        ("mp3", 20_000, 22_050),
        ("aac", 9_000, 11_025),
        ("flac", 12_345, 12_345),
        ("wav", 8_001, 8_001),
        ("ulaw", 8_000, 8_000),
    ],
)
def test_the_next_rate_up_is_offered(name: str, requested_hz: int, carried_hz: int) -> None:
    assert container_rate_hz(name, requested_hz) == carried_hz
    make_encoder(name, carried_hz).close()


@pytest.mark.parametrize("requested_hz", [7_999, 48_001, 0, -1])
def test_rates_out_of_range_are_refused(requested_hz: int) -> None:
    with pytest.raises(InputError, match="8000 and 48000") as caught:
        container_rate_hz("wav", requested_hz)
    assert caught.value.param == "sample_rate"


def test_a_rate_is_never_altered_silently() -> None:
    with pytest.raises(InputError, match="24000") as caught:
        make_encoder("opus", 22_050)
    assert caught.value.param == "sample_rate"


def test_a_wav_file_states_its_exact_sizes() -> None:
    data = wav_file(tone(0.5, 8_000), 8_000)
    assert len(data) == 44 + 8_000
    assert struct.unpack_from("<I", data, 4) == (len(data) - 8,)
    assert struct.unpack_from("<HHIIHH", data, 20) == (1, 1, 8_000, 16_000, 2, 16)
    assert struct.unpack_from("<4sI", data, 36) == (b"data", 8_000)


def test_a_wav_stream_states_no_size() -> None:
    encoder = make_encoder("wav", 24_000)
    first = encoder.push(tone(0.02, 24_000))
    assert struct.unpack_from("<I", first, 4) == (0xFFFFFFFF,)
    assert struct.unpack_from("<I", first, 40) == (0xFFFFFFFF,)
    assert encoder.finish() == b""


def test_a_rate_the_codec_cannot_carry_becomes_the_next_one() -> None:
    assert delivered_format("opus", 22_050, RATE_HZ).sample_rate_hz == 24_000
    assert delivered_format("pcm", None, RATE_HZ).sample_rate_hz == RATE_HZ


def test_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        delivered_format("midi", None, RATE_HZ)
    assert caught.value.param == "response_format"


def test_a_whole_wav_has_an_exact_header() -> None:
    data = encode_whole(TONE, RATE_HZ, "wav")
    assert int.from_bytes(data[40:44], "little") == len(TONE) * 2 == len(data) - 44
