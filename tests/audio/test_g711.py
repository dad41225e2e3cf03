import importlib
import warnings
from types import ModuleType

import numpy as np
import pytest

from vivavoce.audio.g711 import (
    ALAW_SILENCE,
    ULAW_SILENCE,
    alaw_decode,
    alaw_encode,
    ulaw_decode,
    ulaw_encode,
)
from vivavoce.audio.pcm import from_int16, to_int16

ALL_INT16 = np.arange(-32768, 32768).astype(np.int16)
ALL_BYTES = bytes(range(256))


@pytest.fixture
def audioop() -> ModuleType:
    """The standard library's own G.711, which Python 3.13 dropped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return importlib.import_module("audioop")
        except ImportError:
            pytest.skip("this Python has no audioop")


@pytest.mark.parametrize(("encode", "law"), [(ulaw_encode, "lin2ulaw"), (alaw_encode, "lin2alaw")])
def test_every_sample_encodes_as_the_standard_library_does(encode, law, audioop) -> None:
    assert encode(from_int16(ALL_INT16)) == getattr(audioop, law)(ALL_INT16.tobytes(), 2)


@pytest.mark.parametrize(("decode", "law"), [(ulaw_decode, "ulaw2lin"), (alaw_decode, "alaw2lin")])
def test_every_byte_decodes_as_the_standard_library_does(decode, law, audioop) -> None:
    wanted = np.frombuffer(getattr(audioop, law)(ALL_BYTES, 2), np.int16)
    assert np.array_equal(to_int16(decode(ALL_BYTES)), wanted)


# From the value tables of ITU-T G.711, scaled to 16 bits: (sample, µ-law byte, A-law byte).
GOLDEN = [
    (0, 0xFF, 0xD5),
    (-1, 0x7E, 0x55),
    (4, 0xFE, 0xD5),
    (100, 0xF2, 0xD3),
    (1000, 0xCE, 0xFA),
    (-1000, 0x4E, 0x7A),
    (8031, 0xA0, 0x8A),
    (32767, 0x80, 0xAA),
    (-32768, 0x00, 0x2A),
]


@pytest.mark.parametrize(("value", "ulaw", "alaw"), GOLDEN)
def test_golden_values(value: int, ulaw: int, alaw: int) -> None:
    sample = from_int16(np.array([value], np.int16))
    assert ulaw_encode(sample) == bytes([ulaw])
    assert alaw_encode(sample) == bytes([alaw])


def test_golden_decoding() -> None:
    assert to_int16(ulaw_decode(b"\x00\x80\xff\x7f")).tolist() == [-32124, 32124, 0, 0]
    assert to_int16(alaw_decode(b"\x2a\xaa\xd5\x55")).tolist() == [-32256, 32256, 8, -8]


def test_silence_bytes() -> None:
    nothing = np.zeros(3, np.float32)
    assert ulaw_encode(nothing) == bytes([ULAW_SILENCE] * 3)
    assert alaw_encode(nothing) == bytes([ALAW_SILENCE] * 3)


@pytest.mark.parametrize(
    ("encode", "decode"), [(ulaw_encode, ulaw_decode), (alaw_encode, alaw_decode)]
)
def test_decoding_then_encoding_gives_the_same_bytes(encode, decode) -> None:
    # µ-law has two zeros; the negative one comes back as the positive one.
    kept = bytes(byte for byte in ALL_BYTES if not (encode is ulaw_encode and byte == 0x7F))
    assert encode(decode(kept)) == kept
