"""Clauses that are there, and clauses that are not yet: the same sound, and nothing that waits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest

from speech.test_pipeline import Bench, clause, texts
from vivavoce.speech.clauses import TextFeed, WholeText
from vivavoce.text import Frontend, TextOptions, clauses
from vivavoce.types import Clause, Samples

TEXT = "One is here. Two comes later, or so they say! Is three the last?"


def feed() -> TextFeed:
    return TextFeed(Frontend(TextOptions("en")))


def spoken(bench: Bench) -> None:
    """Each utterance that is open and has not been made sounds as long as its text."""
    for stream in bench.opened:
        if not stream.finished:
            stream.make(20 * len(stream.utterance.text))
            stream.end()


async def heard(bench: Bench) -> Samples:
    sound = []
    async for piece in bench.pipeline:
        sound.append(piece.samples)
        spoken(bench)
    return np.concatenate(sound)


async def whole() -> Samples:
    bench = Bench(WholeText(clauses(TEXT, TextOptions("en"))))
    bench.pipeline.start()
    spoken(bench)
    return await heard(bench)


def test_a_whole_text_is_taken_clause_by_clause() -> None:
    made: list[str] = []

    def lazily() -> Iterator[Clause]:
        for text in ("one", "two"):
            made.append(text)
            yield clause(text)

    source = WholeText(lazily())
    assert made == []
    assert source.take() == clause("one") and made == ["one"]
    assert source.take() == clause("two") and not source.ended
    assert source.take() is None and source.ended


def test_what_a_text_raises_is_raised_when_its_turn_has_come() -> None:
    def broken() -> Iterator[Clause]:
        yield clause("one")
        raise ValueError("planted")

    source = WholeText(broken())
    assert source.take() == clause("one")
    with pytest.raises(ValueError, match="planted"):
        source.take()


async def test_a_source_that_says_not_yet_gives_the_sound_of_the_whole() -> None:
    before = asyncio.all_tasks()
    source = feed()
    bench = Bench(source)
    bench.pipeline.start()
    assert bench.opened == [], "nothing is there yet"
    hearing = asyncio.create_task(heard(bench))
    for at in range(len(TEXT)):
        await asyncio.sleep(0)
        source.feed(TEXT[at])
        spoken(bench)
    assert not hearing.done()
    source.finish()
    spoken(bench)
    np.testing.assert_array_equal(await hearing, await whole())
    assert texts(bench) == [each.text for each in clauses(TEXT, TextOptions("en"))]
    assert asyncio.all_tasks() == before, "no task is left"


async def test_a_clause_that_arrives_is_opened_at_once_while_the_one_before_is_heard() -> None:
    source = feed()
    bench = Bench(source)
    bench.pipeline.start()
    source.feed("One is here. ")
    source.feed("Two comes ")
    assert texts(bench) == ["One is here."]
    bench.opened[0].make(50)
    bench.opened[0].end()
    assert len(bench.opened) == 1, "not yet"
    source.feed("later. And")
    assert texts(bench)[1:] == ["Two comes later."], "nobody had to ask for it"
    bench.pipeline.close()
    assert [stream.closed for stream in bench.opened] == [1, 1]


async def test_whoever_waits_for_a_clause_hears_of_the_end() -> None:
    source = feed()
    bench = Bench(source)
    bench.pipeline.start()
    hearing = asyncio.create_task(anext(bench.pipeline))
    await asyncio.sleep(0)
    bench.pipeline.close()
    with pytest.raises(StopAsyncIteration):
        await hearing


async def test_a_text_without_words_is_no_sound() -> None:
    source = feed()
    bench = Bench(source)
    bench.pipeline.start()
    source.finish()
    (last,) = [each async for each in bench.pipeline]
    assert last.last and len(last.samples) == 0


async def test_leaving_while_nothing_is_there_leaves_no_task_and_no_call_back() -> None:
    before = asyncio.all_tasks()
    source = feed()
    bench = Bench(source)
    bench.pipeline.start()
    hearing = asyncio.create_task(anext(bench.pipeline))
    await asyncio.sleep(0)
    hearing.cancel()
    await asyncio.wait({hearing})
    bench.pipeline.close()
    assert source.on_arrival is None and bench.opened == []
    assert asyncio.all_tasks() == before
