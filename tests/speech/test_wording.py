"""When a text is read, where, and what becomes of one that grows too long."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from vivavoce.errors import Busy, EmptyInput, InputError, InputTooLong
from vivavoce.speech import clauses as wording_room
from vivavoce.speech.clauses import MAX_GROWTH
from vivavoce.speech.observer import Outcome, SpeechObserver
from vivavoce.speech.service import ServiceOptions, SpeechService
from vivavoce.testing.fake_engine import FakeEngine
from vivavoce.text import Lexicon
from vivavoce.types import Clause, SpeechRequest, Timings

LONG = "word " * 300
MAX_CHARS = 1_000


class Witness(SpeechObserver):
    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def finished(self, outcome: Outcome, timings: Timings, transport: str) -> None:
        self.outcomes.append(outcome)


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[SpeechService]:
    engine = FakeEngine()
    chosen = ServiceOptions(**{"cache_entries": 0, "max_input_chars": MAX_CHARS} | options)
    service = SpeechService(engine, chosen, Witness())
    await service.start()
    try:
        yield service
    finally:
        await service.close()


class Reads:
    """The texts that were read, and whether that was beside the event loop."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.texts: list[str] = []
        self.beside: list[bool] = []
        real = wording_room.clauses

        def noting(text: str, *how: Any) -> Iterator[Clause]:
            self.texts.append(text)
            self.beside.append(threading.current_thread().name.startswith("vivavoce-text"))
            return real(text, *how)

        patch.setattr(wording_room, "clauses", noting)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


async def speak(service: SpeechService, text: str, **how: Any) -> float:
    async with service.open(SpeechRequest(text, **how)) as stream:
        return sum([chunk.duration_s async for chunk in stream])


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_text_is_not_read_before_its_request_is_let_in(reads: Reads) -> None:
    async with serving(capacity=1, max_waiting=1) as service:
        reads.texts.clear()
        async with service.open(SpeechRequest("The first.")) as stream:
            await anext(stream)
            second = asyncio.create_task(speak(service, "The second."))
            await settle()
            assert reads.texts == ["The first.", "The second."], "a place is enough"
            for text in ("The third.", "?!", "<speak>", LONG[:900]):
                with pytest.raises(Busy):
                    await speak(service, text, ssml="<" in text)
            assert len(reads.texts) == 2
        await second


async def test_a_text_that_cannot_be_spoken_gives_its_slot_or_place_back(reads: Reads) -> None:
    async with serving(capacity=1, max_waiting=1) as service:
        with pytest.raises(EmptyInput):
            await speak(service, "?! ...")
        assert service.admission.running == 0
        async with service.open(SpeechRequest("The first.")) as stream:
            await anext(stream)
            for text, error in (("?! ...", EmptyInput), ("<speak>oops", InputError)):
                with pytest.raises(error):
                    await speak(service, text, ssml="<" in text)
                assert (service.admission.running, service.admission.waiting) == (1, 0)
        witness = service.observer
        assert isinstance(witness, Witness)
        assert witness.outcomes == ["invalid", "invalid", "invalid", "cancelled"]


@pytest.mark.parametrize(
    "request_",
    [
        SpeechRequest("x" * (MAX_CHARS + 1)),
        SpeechRequest("x", speed=9.0),
        SpeechRequest("x", voice="nobody"),
        SpeechRequest("  \n"),
        SpeechRequest("x", lexicon={str(number): "x" for number in range(1_001)}),
        SpeechRequest("x", options={"unheard_of": 1}),
    ],
    ids=["length", "speed", "voice", "empty", "lexicon", "options"],
)
async def test_what_needs_no_reading_is_checked_first(
    reads: Reads, request_: SpeechRequest
) -> None:
    """Also on a full server, which says what is wrong rather than that it is full."""
    async with (
        serving(capacity=1, max_waiting=0) as service,
        service.open(SpeechRequest("The first.")) as stream,
    ):
        await anext(stream)
        reads.texts.clear()
        with pytest.raises(InputError):
            await chunks_of(service, request_)
        assert reads.texts == []


async def chunks_of(service: SpeechService, request: SpeechRequest) -> None:
    async with service.open(request) as stream:
        async for _ in stream:
            pass


SLOW: dict[str, dict[str, Any]] = {
    "a large lexicon": {"lexicon": {f"word{number}": "spoken" for number in range(100)}},
    "SSML": {"ssml": True},
    "digits": {"text": "777 " * 200},
}


@pytest.mark.parametrize("what", SLOW)
async def test_what_takes_long_is_read_beside_the_event_loop(reads: Reads, what: str) -> None:
    how = {"text": "Some words of it. " * 50} | SLOW[what]
    async with serving() as service:
        reads.beside.clear()
        await speak(service, **how)
        assert reads.beside == [True]


async def test_an_ordinary_text_is_read_where_it_is_quickest(reads: Reads) -> None:
    async with serving() as service:
        reads.beside.clear()
        await speak(service, "Some words of it, and 5 more. " * 30, lexicon={"words": "worts"})
        await speak(service, "<s>Short</s>", ssml=True)
        await speak(service, "Some words.", lexicon=Lexicon({f"w{n}": "x" for n in range(100)}))
        assert reads.beside == [False, False, False]


GROWS: dict[str, dict[str, Any]] = {
    "digits": {"text": "7" * MAX_CHARS},
    "a lexicon": {"text": "a b " * 100, "lexicon": {"a": "c" * 500}},
    "say-as": {
        "text": f'<say-as interpret-as="characters">{"!" * 900}</say-as>',
        "ssml": True,
    },
}


@pytest.mark.parametrize("what", GROWS)
async def test_a_text_that_grows_too_long_is_refused_before_any_sound(what: str) -> None:
    async with serving() as service:
        engine = service.engine
        assert isinstance(engine, FakeEngine)
        steps = engine.steps
        with pytest.raises(InputTooLong, match=f"at most {MAX_GROWTH * MAX_CHARS}"):
            await speak(service, **GROWS[what])
        assert engine.steps == steps
        assert (service.admission.running, service.lifecycle.loop.live) == (0, 0)


async def test_the_servers_lexicon_counts_as_well() -> None:
    async with serving(lexicon=Lexicon({"a": "c" * 500})) as service:
        with pytest.raises(InputTooLong):
            await speak(service, "a b " * 100)


async def test_what_was_suspected_and_is_not_too_long_is_spoken_whole() -> None:
    text = "7 7 " * 100
    async with serving() as service:
        spoken = await speak(service, text)
        assert spoken > 0.06 * len("seven ") * 200 * 0.8


async def test_a_text_that_grows_too_long_against_all_expectation_ends_visibly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wording_room, "may_exceed", lambda *_, **__: False)
    async with serving() as service:
        async with service.open(SpeechRequest("7" * MAX_CHARS)) as stream:
            await anext(stream)
            with pytest.raises(InputTooLong):
                async for _ in stream:
                    pass
            assert stream.outcome == "invalid"
        assert service.admission.running == 0


async def test_reading_is_timed() -> None:
    async with serving() as service, service.open(SpeechRequest("One word. " * 20)) as stream:
        first_ms = stream.timings.normalize_ms
        assert first_ms > 0
        async for _ in stream:
            pass
        assert stream.timings.normalize_ms > first_ms
