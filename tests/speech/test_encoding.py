"""Codecs work in threads: in order, one at a time for a stream, and given back whatever happens."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from vivavoce.audio import compressed as compressed_room
from vivavoce.audio.encode import delivered_format
from vivavoce.audio.formats import ENCODINGS, Encoder
from vivavoce.speech import encoding as encoding_room
from vivavoce.speech.encoding import PIECE_S, ThreadedEncoder, encoded, start_threads, threads_for
from vivavoce.types import AudioChunk, AudioFormat, Samples, WordTiming

RATE_HZ = 24_000
COMPRESSED = [name for name, each in ENCODINGS.items() if each.compressed]
PLAIN = [name for name, each in ENCODINGS.items() if not each.compressed]
TONE = (0.3 * np.sin(np.arange(RATE_HZ) * 0.1)).astype(np.float32)
SOME = np.zeros(10, np.float32)
ENGINE_HZ = 22_050
SPOKEN = (0.3 * np.sin(np.arange(ENGINE_HZ) * 0.1)).astype(np.float32)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - any condition, not only events
            await asyncio.sleep(0.001)


class Slow(Encoder):
    """Encodes for as long as it is told, and notes who does what."""

    def __init__(self) -> None:
        self.going_on = threading.Event()
        self.begun = threading.Event()
        self.done: list[str] = []
        self.threads: set[int] = set()
        self.inside = self.most_inside = 0

    def push(self, samples: Samples) -> bytes:
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        self.threads.add(threading.get_ident())
        self.begun.set()
        assert self.going_on.wait(10)
        self.inside -= 1
        self.done.append("push")
        return b"x"

    def finish(self) -> bytes:
        self.done.append("finish")
        return b"end"

    def close(self) -> None:
        self.most_inside = max(self.most_inside, self.inside + 1)
        self.done.append("close")


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(3) as made:
        yield made


async def test_it_works_in_a_thread_and_the_event_loop_goes_on(threads: ThreadPoolExecutor) -> None:
    slow = Slow()
    encoder = ThreadedEncoder(lambda: slow, threads)
    pushing = asyncio.create_task(encoder.push(SOME))
    await until(slow.begun.is_set)
    slow.going_on.set()
    assert await pushing == b"x"
    assert await encoder.finish() == b"end"
    encoder.close()
    assert threading.get_ident() not in slow.threads
    assert slow.done == ["push", "finish"], "an encoder that has finished holds nothing"


async def test_closing_while_a_piece_is_encoded_waits_for_nobody_and_closes_after_it(
    threads: ThreadPoolExecutor,
) -> None:
    slow = Slow()
    encoder = ThreadedEncoder(lambda: slow, threads)
    pushing = asyncio.create_task(encoder.push(SOME))
    await until(slow.begun.is_set)
    encoder.close()
    encoder.close()
    assert slow.done == [], "nobody has waited"
    slow.going_on.set()
    await pushing
    await until(lambda: "close" in slow.done)
    assert slow.done == ["push", "close"]
    assert slow.most_inside == 1


async def test_a_cancelled_push_is_left_at_once(threads: ThreadPoolExecutor) -> None:
    slow = Slow()
    encoder = ThreadedEncoder(lambda: slow, threads)

    async def speak() -> None:
        try:
            await encoder.push(SOME)
        finally:
            encoder.close()

    speaking = asyncio.create_task(speak())
    await until(slow.begun.is_set)
    speaking.cancel()
    await asyncio.gather(speaking, return_exceptions=True)
    assert slow.done == []
    slow.going_on.set()
    await until(lambda: slow.done == ["push", "close"])
    assert slow.most_inside == 1


async def test_what_waits_for_a_thread_does_nothing_once_it_is_closed() -> None:
    made: list[Slow] = []

    def make() -> Encoder:
        made.append(Slow())
        return made[-1]

    with ThreadPoolExecutor(1) as one:
        busy = threading.Event()
        one.submit(busy.wait, 10)
        encoder = ThreadedEncoder(make, one)
        pushing = asyncio.create_task(encoder.push(SOME))
        await asyncio.sleep(0)
        encoder.close()
        busy.set()
        assert await pushing == b""
        assert await encoder.finish() == b""
    assert made == []


async def test_closing_is_safe_when_the_threads_have_ended() -> None:
    slow = Slow()
    slow.going_on.set()
    with ThreadPoolExecutor(1) as gone:
        encoder = ThreadedEncoder(lambda: slow, gone)
        await encoder.push(SOME)
    encoder.close()
    assert slow.done == ["push", "close"]


async def test_what_making_an_encoder_raises_is_raised(threads: ThreadPoolExecutor) -> None:
    def fail() -> Encoder:
        raise ZeroDivisionError

    encoder = ThreadedEncoder(fail, threads)
    with pytest.raises(ZeroDivisionError):
        await encoder.push(SOME)
    encoder.close()


def test_remembered_speech_has_one_thread_of_its_own_that_goes_last() -> None:
    start_threads()
    names = [thread.name for thread in threading.enumerate()]
    assert sum(name.startswith("vivavoce-remembered") for name in names) == 1
    live = sum(name.startswith("vivavoce-encode") for name in names)
    assert 2 <= live <= encoding_room.MAX_THREADS
    assert threads_for(remembered=True) is not threads_for(remembered=False)


# What the streams make of it.


async def chunks(*lengths: int, hold: asyncio.Event | None = None) -> AsyncIterator[AudioChunk]:
    for length in lengths:
        yield AudioChunk(np.resize(TONE, length), RATE_HZ)
    if hold is not None:
        await hold.wait()


class Noted:
    """Compressed encoders that are made from now on, and the threads they work in."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.made: list[weakref.ref[compressed_room.CompressedEncoder]] = []
        self.threads: set[int] = set()
        self.open = 0
        real = compressed_room.CompressedEncoder
        noted = self

        class Watched(real):  # type: ignore[valid-type, misc]
            def __init__(self, encoding: str, sample_rate_hz: int) -> None:
                super().__init__(encoding, sample_rate_hz)
                noted.made.append(weakref.ref(self))
                noted.open += 1

            def push(self, samples: Samples) -> bytes:
                noted.threads.add(threading.get_ident())
                return bytes(super().push(samples))

            def close(self) -> None:
                noted.open -= self._container is not None
                super().close()

        patch.setattr(compressed_room, "CompressedEncoder", Watched)

    def all_gone(self) -> bool:
        """Whether none of them is in memory any more."""
        gc.collect()
        return all(each() is None for each in self.made)


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> Noted:
    return Noted(monkeypatch)


@pytest.mark.parametrize("name", COMPRESSED)
async def test_every_compressed_format_is_encoded_off_the_event_loop(
    noted: Noted, name: str
) -> None:
    target = delivered_format(name, None, RATE_HZ)
    data = [piece.data async for piece in encoded(chunks(2_000, 2_000, 40_000), RATE_HZ, target)]
    assert len(b"".join(data)) > 500
    assert noted.threads
    assert threading.get_ident() not in noted.threads
    await until(lambda: noted.open == 0)


@pytest.mark.parametrize("name", COMPRESSED)
async def test_given_up_in_mid_stream_nothing_of_the_codec_is_left(noted: Noted, name: str) -> None:
    target = delivered_format(name, None, RATE_HZ)
    hold = asyncio.Event()

    async def speak() -> None:
        async for _ in encoded(chunks(24_000, hold=hold), RATE_HZ, target):
            pass

    speaking = [asyncio.create_task(speak()) for _ in range(8)]
    for number, task in enumerate(speaking):
        await asyncio.sleep(0.002 * number)
        task.cancel()
    await asyncio.gather(*speaking, return_exceptions=True)
    await until(lambda: noted.open == 0)
    await until(noted.all_gone)


@pytest.mark.parametrize("name", PLAIN)
async def test_plain_samples_stay_on_the_event_loop_while_they_are_short(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    used: list[str] = []

    async def note(self: ThreadedEncoder, samples: Samples) -> bytes:
        used.append("thread")
        return self.push_here(samples)

    monkeypatch.setattr(ThreadedEncoder, "push", note)
    target = delivered_format(name, 8_000, RATE_HZ)
    size = round(PIECE_S * RATE_HZ)
    assert [piece async for piece in encoded(chunks(size, 10, size), RATE_HZ, target)]
    assert used == []
    assert [piece async for piece in encoded(chunks(size + 1), RATE_HZ, target)]
    assert used == ["thread", "thread"]


@pytest.mark.parametrize("name", list(ENCODINGS))
async def test_a_chunk_of_any_length_leaves_in_small_pieces_and_whole(name: str) -> None:
    target = delivered_format(name, 48_000, RATE_HZ)
    pieces = [piece.data async for piece in encoded(chunks(4 * RATE_HZ), RATE_HZ, target)]
    assert max(map(len, pieces)) <= 65_536
    if name == "pcm":
        assert sum(map(len, pieces)) == 4 * 48_000 * 2


async def test_many_streams_at_once_keep_their_order() -> None:
    target = delivered_format("flac", None, RATE_HZ)

    async def heard(*lengths: int) -> bytes:
        return b"".join([each.data async for each in encoded(chunks(*lengths), RATE_HZ, target)])

    alone = await heard(*[960] * 50)
    assert set(await asyncio.gather(*(heard(*[960] * 50) for _ in range(16)))) == {alone}


async def test_the_event_loop_goes_on_while_much_is_encoded() -> None:
    target = delivered_format("opus", 48_000, RATE_HZ)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    began_s = time.monotonic()
    pieces = [each.data async for each in encoded(chunks(10 * RATE_HZ), RATE_HZ, target)]
    counting.cancel()
    assert len(pieces) >= 40
    assert turns > 10 * len(pieces), f"{turns} turns in {time.monotonic() - began_s:.1f} s"


async def spoken(*cuts: int) -> AsyncIterator[AudioChunk]:
    for part in np.split(SPOKEN, cuts):
        yield AudioChunk(part, ENGINE_HZ)


async def gathered(target: AudioFormat, *cuts: int) -> bytes:
    return b"".join([piece.data async for piece in encoded(spoken(*cuts), ENGINE_HZ, target)])


@pytest.mark.parametrize("encoding", ["pcm", "wav", "flac", "ulaw", "alaw", "mp3", "aac"])
async def test_chunking_does_not_alter_the_bytes(encoding: str) -> None:
    target = delivered_format(encoding, None, ENGINE_HZ)
    whole = await gathered(target)
    assert len(whole) > 1_000
    assert await gathered(target, 1, 100, 5_000, 5_001, 20_000) == whole


async def test_chunking_does_not_alter_converted_sound() -> None:
    target = AudioFormat("pcm", 8_000)
    whole = np.frombuffer(await gathered(target), np.int16)
    in_pieces = np.frombuffer(await gathered(target, 1, 100, 5_000, 5_001, 20_000), np.int16)
    assert len(in_pieces) == len(whole)
    assert np.abs(in_pieces.astype(int) - whole).max() <= 1


async def test_sound_leaves_as_it_is_made() -> None:
    target = AudioFormat("pcm", 8_000)
    counts = [
        len(piece.data) async for piece in encoded(spoken(5_000, 10_000, 15_000), ENGINE_HZ, target)
    ]
    assert len(counts) >= 4
    assert sum(counts) == pytest.approx(16_000, abs=4)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 24_000, 44_100, 48_000])
async def test_any_rate_keeps_the_duration(rate_hz: int) -> None:
    data = await gathered(AudioFormat("pcm", rate_hz), 3_000)
    assert len(data) / 2 == pytest.approx(rate_hz, abs=2)


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
async def test_words_leave_with_the_bytes_that_they_sound_in(encoding: str) -> None:
    """Their places and what has left count at the delivered rate; nobody's word comes early."""
    target = delivered_format(encoding, 16_000, ENGINE_HZ)
    words = [WordTiming(f"{n}", n * 2_000, n * 2_000 + 1_500) for n in range(10)]

    async def told() -> AsyncIterator[AudioChunk]:
        for n, word in enumerate(words):
            yield AudioChunk(SPOKEN[n * 2_000 : (n + 1) * 2_000], ENGINE_HZ, words=(word,))

    got = [piece async for piece in encoded(told(), ENGINE_HZ, target)]
    placed = [word for piece in got for word in piece.words]
    ratio = target.sample_rate_hz / ENGINE_HZ
    assert placed == [word.mapped(lambda at: round(at * ratio)) for word in words]
    for piece in got[:-1]:
        assert all(word.end_sample <= piece.emitted_samples for word in piece.words)
    emitted = [piece.emitted_samples for piece in got]
    assert emitted == sorted(emitted)
    assert emitted[-1] == pytest.approx(20_000 * ratio, abs=1)
    assert len([piece for piece in got if piece.words]) > 1, "they leave as they are spoken"
