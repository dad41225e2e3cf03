"""Chunks of codes to sound as captures, on a stream beside the talker's."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vivavoce.engines.qwen3.codec.decoder import CodecDecoder
from vivavoce.engines.qwen3.codec.state import DecoderState
from vivavoce.engines.qwen3.pace import RAMP, sound_buckets
from vivavoce.runtime.graphs.api import (
    Event,
    GraphApi,
    StaticTensors,
    Stream,
    Work,
    bucket_over,
    tensors_in,
)
from vivavoce.runtime.graphs.captures import Captures, Job
from vivavoce.runtime.graphs.compiled import Compiled
from vivavoce.runtime.graphs.transfer import Feed, HostRing, PendingCopy
from vivavoce.types import Samples

SAMPLES = 1920
"""Of one frame."""

SLOTS = 2 * len(RAMP)
"""Chunks on their way to the host at a time, before the ring grows: those of two steps."""

FEEDS = 64
"""Codes on their way to the device, two a chunk: the host waits for a chunk so far back."""

COMPILED_ROWS, COMPILED_FRAMES = 4, 2
"""Each size is compiled by itself, which takes a while: those of the first sounds are."""


class WindowKey(NamedTuple):
    """What a captured chunk was made for."""

    rows: int
    frames: int


class PendingAudio:
    """Chunks of some rows on their way to the host."""

    def __init__(self, arrival: PendingCopy, rows: int, samples: int) -> None:
        self._arrival, self._shape = arrival, (rows, samples)

    def ready(self) -> bool:
        """Whether the host can read them without waiting."""
        return self._arrival.ready()

    def take(self) -> list[Samples]:
        """Wait for them: float32 [T * 1920] of each row, in the order of the call."""
        return list(self._arrival.take().view(self._shape).numpy())

    def release(self) -> None:
        """Nobody wants them."""
        self._arrival.release()


@dataclass(frozen=True, slots=True)
class ReadyAudio:
    """Sound that is there already, in the manner of ``CodecWindows.decode``."""

    samples: Sequence[Samples]

    def ready(self) -> bool:
        """Always: it was decoded before it was handed out."""
        return True

    def take(self) -> Sequence[Samples]:
        """All of it."""
        return self.samples

    def release(self) -> None:
        """Nothing is held."""


class CodecWindows:
    """A decoder with the states of ``rows`` rows, and one more that padding goes to.

    Rows are picked and put back inside of the capture, so that any of them may be decoded
    together. Everything here happens on a stream of its own, in order.
    """

    def __init__(
        self, api: GraphApi, decoder: CodecDecoder, rows: int, mode: str | None = None
    ) -> None:
        """``mode``: of torch.compile, for the decoder of a few rows; None compiles nothing."""
        self.stream: Stream = api.stream("codec")
        self._api, self._main = api, api.main
        self._ready, self._urgent = api.event(), api.event()
        self._begun: deque[tuple[Event, DecoderState]] = deque()
        self.state = decoder.init_state(rows + 1)
        self._decode: Callable[..., Tensor] = decoder.decode
        self._spare = rows
        self._compiled = None if mode is None else Compiled("The codec", decoder.decode, mode)
        self._rows = rows
        device, groups = self.state.positions.device, decoder.config.num_quantizers
        longest = max(RAMP)
        frames = rows * longest
        self._codes = torch.zeros(frames * groups, dtype=torch.int64, device=device)
        self._picked = torch.full((rows,), rows, dtype=torch.int64, device=device)
        self._sound = torch.zeros(frames * SAMPLES, device=device)
        self._groups = groups
        buffers = tensors_in([self._codes, self._picked, self._sound, self.state])
        statics = StaticTensors().module(decoder).buffers(buffers)
        self.captures: Captures[WindowKey] = Captures("codec", api, statics)
        self._feed = Feed(api, torch.int64, frames * groups, FEEDS)
        self._ring = HostRing(api, self._sound, self._sound.numel(), SLOTS, "sound")

    @property
    def in_use(self) -> int:
        """Host buffers that hold sound nobody took yet."""
        return self._ring.in_use

    @property
    def uncompiled(self) -> int:
        """How many sizes should have been compiled and were not."""
        return 0 if self._compiled is None else self._compiled.failed

    def warm(self) -> None:
        """Capture every size of the ramp for every bucket; nothing may be speaking."""
        keys = [
            WindowKey(rows, frames) for frames in RAMP for rows in sound_buckets(frames, self._rows)
        ]
        jobs = [Job(key, key.rows * key.frames, self._work(key)) for key in keys]
        # The warm-up runs are for the spare row.
        self.stream.synchronize()
        self.captures.warm(jobs)

    def begin(self, row: int, state: DecoderState | None = None) -> None:
        """A stream begins in ``row``: as new, or as row 0 of ``state`` left off."""
        if state is None:
            self.stream.run(lambda: self.state.reset(row))
            return
        self._ready.record(self._main)
        self.stream.wait(self._ready)
        self.stream.run(lambda: self.state.copy_row(row, state))
        while self._begun and self._begun[0][0].done():
            self._begun.popleft()
        copied = self._api.event()
        copied.record(self.stream)
        # Its memory must not be given to another before it is read.
        self._begun.append((copied, state))

    def decode(
        self,
        rows: Sequence[int],
        codes: NDArray[np.int64],
        *,
        last: bool = False,
        urgent: bool = False,
    ) -> PendingAudio:
        """Send the next ``codes`` [len(rows), T, 16] of some rows, T ≤ 12; their sound arrives.

        ``last``: none of the rows goes on, so that what is behind T may be anything. ``urgent``:
        what comes on the main stream from now on waits for it.
        """
        self._ring.make_room(self.stream)  # before the chunk, which must not be decoded twice
        count, frames, groups = codes.shape
        key = self._key(count, frames, last=last)
        padded = np.zeros((key.rows, key.frames, groups), np.int64)
        padded[:count, :frames] = codes
        picked = torch.tensor([*rows, *[self._spare] * (key.rows - count)])
        self._feed.put(torch.from_numpy(padded), self._given(key), self.stream)
        self._feed.put(picked, self._picked[: key.rows], self.stream)
        self.stream.run(lambda: self._replay(key))
        if urgent:
            self._urgent.record(self.stream)
            self._main.wait(self._urgent)
        sound = self._made(key)[:count, : frames * SAMPLES]
        return PendingAudio(self._ring.send([sound], self.stream), count, frames * SAMPLES)

    def rehearse(self, rows: int, frames: int) -> None:
        """Decode a chunk of the spare row, to see how long it takes."""
        key = self._key(rows, frames, last=False)
        self.stream.run(lambda: self._picked.fill_(self._spare))
        self.stream.run(lambda: self._replay(key))

    def close(self) -> None:
        """Give graphs and host memory back."""
        self.stream.synchronize()
        self._begun.clear()
        self.captures.release()
        self._feed.close()
        self._ring.close()

    def _key(self, count: int, frames: int, *, last: bool) -> WindowKey:
        longer = bucket_over(frames, RAMP)
        assert longer is not None, "more than there is room for"
        frames = longer if last else frames
        rows = bucket_over(count, sound_buckets(frames, self._rows))
        assert rows is not None, "more than there is room for"
        return WindowKey(rows, frames)

    def _replay(self, key: WindowKey) -> None:
        self.captures.run(key, self._work(key))

    def _given(self, key: WindowKey) -> Tensor:
        size = key.rows * key.frames * self._groups
        return self._codes[:size].view(key.rows, key.frames, self._groups)

    def _made(self, key: WindowKey) -> Tensor:
        size = key.rows * key.frames * SAMPLES
        return self._sound[:size].view(key.rows, key.frames * SAMPLES)

    def _work(self, key: WindowKey) -> Work:
        return lambda: self._window(key)

    @torch.no_grad()
    def _window(self, key: WindowKey) -> None:
        picked = self._picked[: key.rows]
        part = self.state.gather(picked)
        decode = self._decode
        few = key.rows <= COMPILED_ROWS and key.frames <= COMPILED_FRAMES
        if self._compiled is not None and few:
            decode = self._compiled
        self._made(key).copy_(decode(self._given(key), part))
        moved = part.tensors()
        for name, tensor in self.state.tensors().items():
            tensor.index_copy_(0, picked, moved[name])
