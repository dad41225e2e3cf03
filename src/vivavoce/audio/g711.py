"""G.711 µ-law and A-law by look-up tables; bit-exact with ITU-T G.711 as used on phone lines.

Encoding takes the 14 (µ-law) or 13 (A-law) most significant bits of an int16 sample, as the
recommendation says, and the tables hold the answer for each of the 65,536 values. Decoding has
256 answers, at full int16 scale. µ-law silence is 0xFF, A-law silence 0xD5.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from vivavoce.audio.pcm import from_int16, to_int16
from vivavoce.types import Samples

if TYPE_CHECKING:
    from numpy.typing import NDArray

    _Bytes: TypeAlias = NDArray[np.uint8]
    _Ints: TypeAlias = NDArray[np.int64]
    _Int16: TypeAlias = NDArray[np.int16]

ULAW_SILENCE = 0xFF
ALAW_SILENCE = 0xD5

# Upper ends of the eight segments, in the codecs' own integer scale.
_ULAW_ENDS = np.array([0x3F, 0x7F, 0xFF, 0x1FF, 0x3FF, 0x7FF, 0xFFF, 0x1FFF])
_ALAW_ENDS = np.array([0x1F, 0x3F, 0x7F, 0xFF, 0x1FF, 0x3FF, 0x7FF, 0xFFF])
_ULAW_BIAS = 33
_ULAW_CLIP = 8158


def _all_int16() -> _Ints:
    """Every int16 value, placed at its bit pattern read as uint16."""
    return np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int64)


@cache
def _ulaw_encode_table() -> _Bytes:
    value = _all_int16() >> 2
    magnitude = np.minimum(np.abs(value), _ULAW_CLIP) + _ULAW_BIAS
    segment = np.searchsorted(_ULAW_ENDS, magnitude)
    code = (segment << 4) | ((magnitude >> (segment + 1)) & 0x0F)
    table: _Bytes = (code ^ np.where(value < 0, 0x7F, 0xFF)).astype(np.uint8)
    return table


@cache
def _alaw_encode_table() -> _Bytes:
    value = _all_int16() >> 3
    magnitude = np.where(value < 0, -value - 1, value)
    segment = np.searchsorted(_ALAW_ENDS, magnitude)
    code = (segment << 4) | ((magnitude >> np.maximum(segment, 1)) & 0x0F)
    table: _Bytes = (code ^ np.where(value < 0, 0x55, 0xD5)).astype(np.uint8)
    return table


@cache
def _ulaw_decode_table() -> _Int16:
    code = ~np.arange(256) & 0xFF
    magnitude = ((((code & 0x0F) << 3) + 4 * _ULAW_BIAS) << ((code >> 4) & 7)) - 4 * _ULAW_BIAS
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


@cache
def _alaw_decode_table() -> _Int16:
    code = np.arange(256) ^ 0x55
    segment = (code >> 4) & 7
    linear = ((code & 0x0F) << 4) + 8
    magnitude = np.where(segment > 0, (linear + 0x100) << np.maximum(segment - 1, 0), linear)
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


def _encode(samples: Samples, table: _Bytes) -> bytes:
    return table[to_int16(samples).view(np.uint16)].tobytes()


def ulaw_encode(samples: Samples) -> bytes:
    """Float32 (n,) to n bytes of µ-law."""
    return _encode(samples, _ulaw_encode_table())


def alaw_encode(samples: Samples) -> bytes:
    """Float32 (n,) to n bytes of A-law."""
    return _encode(samples, _alaw_encode_table())


def ulaw_decode(data: bytes | bytearray | memoryview) -> Samples:
    """N bytes of µ-law to float32 (n,)."""
    return from_int16(_ulaw_decode_table()[np.frombuffer(data, np.uint8)])


def alaw_decode(data: bytes | bytearray | memoryview) -> Samples:
    """N bytes of A-law to float32 (n,)."""
    return from_int16(_alaw_decode_table()[np.frombuffer(data, np.uint8)])
