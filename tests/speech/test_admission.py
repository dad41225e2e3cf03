"""Slots and the queue: bounded, fair by priority, and never leaking."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vivavoce.errors import Busy, DeadlineExceeded
from vivavoce.speech import admission as admission_room
from vivavoce.speech.admission import (
    FIRST_GUESS_HOLD_S,
    RETRY_AFTER_MAX_MS,
    RETRY_AFTER_MIN_MS,
    SMOOTHING,
    Admission,
)
from vivavoce.types import Priority


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Line:
    """Callers of one admission who stay until they are let go, and the order they got in."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.inside: list[str] = []
        self.waited_s: dict[str, float] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._let_go: dict[str, asyncio.Event] = {}

    async def join(
        self,
        name: str,
        priority: Priority = Priority.REALTIME,
        meanwhile: Callable[[], Awaitable[None]] | None = None,
    ) -> asyncio.Task[None]:
        self._let_go[name] = asyncio.Event()
        self._tasks[name] = asyncio.create_task(self._call(name, priority, meanwhile))
        await settle()
        return self._tasks[name]

    async def leave(self, *names: str) -> None:
        for name in names:
            self._let_go[name].set()
        await settle()

    def hang_up(self, *names: str) -> None:
        """Cancel them; what they do about it, they do when they run next."""
        for name in names:
            self._tasks[name].cancel()

    async def all_leave(self) -> None:
        while any(not task.done() for task in self._tasks.values()):
            await self.leave(*self._let_go)
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _call(
        self, name: str, priority: Priority, meanwhile: Callable[[], Awaitable[None]] | None
    ) -> None:
        async with self.admission.slot(priority, meanwhile=meanwhile) as waited_s:
            self.inside.append(name)
            self.waited_s[name] = waited_s
            await self._let_go[name].wait()


async def test_a_full_queue_refuses_at_once_and_says_when() -> None:
    admission = Admission(capacity=1, max_waiting=0)
    async with admission.slot():
        with pytest.raises(Busy) as caught:
            async with admission.slot():
                pass
        assert RETRY_AFTER_MIN_MS <= caught.value.retry_after_ms <= RETRY_AFTER_MAX_MS
    assert (admission.running, admission.waiting) == (0, 0)


async def test_no_bound_means_everybody_waits() -> None:
    admission = Admission(capacity=1, max_waiting=None)
    done = 0

    async def caller() -> None:
        nonlocal done
        async with admission.slot():
            await asyncio.sleep(0)
            done += 1

    await asyncio.gather(*(caller() for _ in range(100)))
    assert done == 100


async def test_real_time_goes_before_batch_and_both_in_order() -> None:
    admission = Admission(capacity=1, max_waiting=10)
    order: list[str] = []

    async def caller(name: str, priority: Priority) -> None:
        async with admission.slot(priority):
            order.append(name)

    async with admission.slot():
        tasks = []
        for name, priority in [
            ("batch 1", Priority.BATCH),
            ("live 1", Priority.REALTIME),
            ("batch 2", Priority.BATCH),
            ("live 2", Priority.REALTIME),
        ]:
            tasks.append(asyncio.create_task(caller(name, priority)))
            await settle()
        assert admission.waiting == 4
    await asyncio.gather(*tasks)
    assert order == ["live 1", "live 2", "batch 1", "batch 2"]


async def test_an_error_inside_gives_the_slot_back() -> None:
    admission = Admission(capacity=1, max_waiting=0)
    with pytest.raises(ZeroDivisionError):
        async with admission.slot():
            raise ZeroDivisionError
    assert admission.running == 0


async def test_cancel_at_the_very_moment_of_the_turn_leaks_nothing() -> None:
    admission = Admission(capacity=1, max_waiting=5)

    async def caller() -> None:
        async with admission.slot():
            await asyncio.sleep(10)

    async with admission.slot():
        waiting = asyncio.create_task(caller())
        await settle()
    waiting.cancel()  # its turn has come, but it has not run yet
    await asyncio.gather(waiting, return_exceptions=True)
    assert (admission.running, admission.waiting) == (0, 0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["enter", "cancel", "leave"]), st.integers(0, 30))),
    st.integers(1, 3),
    st.integers(0, 4),
)
async def test_any_order_of_events_keeps_the_books(
    events: list[tuple[str, int]], capacity: int, max_waiting: int
) -> None:
    admission = Admission(capacity, max_waiting)
    tasks: list[asyncio.Task[None]] = []
    gates: list[asyncio.Event] = []

    async def caller(gate: asyncio.Event) -> None:
        async with admission.slot():
            await gate.wait()

    for what, which in events:
        if what == "enter":
            gates.append(asyncio.Event())
            tasks.append(asyncio.create_task(caller(gates[-1])))
        elif tasks and what == "cancel":
            tasks[which % len(tasks)].cancel()
        elif tasks:
            gates[which % len(tasks)].set()
        if which % 2:
            await settle()
        assert admission.running <= capacity
        assert admission.waiting <= max_waiting
    for gate in gates:
        gate.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (admission.running, admission.waiting) == (0, 0)


async def test_as_many_slots_and_places_as_were_said_and_not_one_more() -> None:
    line = Line(Admission(capacity=2, max_waiting=3))
    for number in range(5):
        await line.join(str(number))
    assert (line.admission.running, line.admission.waiting) == (2, 3)
    assert line.inside == ["0", "1"]
    with pytest.raises(Busy, match="All 2 slots are taken and 3 requests wait"):
        async with line.admission.slot():
            pass
    await line.leave("0")
    assert (line.admission.running, line.admission.waiting) == (2, 2)
    await line.join("5")
    assert line.admission.waiting == 3
    await line.all_leave()
    assert line.inside == ["0", "1", "2", "3", "4", "5"]
    assert (line.admission.running, line.admission.waiting) == (0, 0)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.sampled_from(Priority), min_size=3, max_size=9),
    st.sets(st.integers(0, 8), max_size=3),
)
@example([Priority.REALTIME, *[Priority.BATCH] * 3, *[Priority.REALTIME] * 3], {0})
async def test_the_order_of_the_queue_survives_those_who_leave_it(
    arrivals: list[Priority], gone: set[int]
) -> None:
    """Whoever is taken out of the middle must not shuffle the others."""
    line = Line(Admission(capacity=1, max_waiting=None))
    await line.join("first")
    for number, priority in enumerate(arrivals):
        await line.join(str(number), priority)
    left = [number for number in range(len(arrivals)) if number not in gone]
    line.hang_up(*(str(number) for number in gone if number < len(arrivals)))
    await settle()
    assert line.admission.waiting == len(left)
    await line.leave("first")
    for _ in left:
        await line.leave(line.inside[-1])
    by_priority = sorted(left, key=lambda number: arrivals[number])  # stable: in order of arrival
    assert line.inside[1:] == [str(number) for number in by_priority]
    await line.all_leave()


async def test_a_slot_that_is_given_to_somebody_who_has_hung_up_goes_to_the_next() -> None:
    line = Line(Admission(capacity=1, max_waiting=5))
    for name in ("first", "gone", "next"):
        await line.join(name)
    line._let_go["first"].set()
    await asyncio.sleep(0)  # first has left, and the turn is gone's, who has not run yet
    assert line.inside == ["first"]
    line.hang_up("gone")
    await settle()
    assert line.inside == ["first", "next"]
    assert (line.admission.running, line.admission.waiting) == (1, 0)
    await line.all_leave()
    assert line.admission.running == 0


async def test_nobody_who_has_hung_up_is_given_a_slot() -> None:
    """Also where those who hang up have not run yet when the slot comes free."""
    line = Line(Admission(capacity=1, max_waiting=5))
    for name in ("first", "gone", "gone too", "next"):
        await line.join(name)
    line._let_go["first"].set()
    line.hang_up("gone", "gone too")
    await settle()
    assert line.inside == ["first", "next"]
    assert (line.admission.running, line.admission.waiting) == (1, 0)
    await line.all_leave()
    assert (line.admission.running, line.admission.waiting) == (0, 0)


async def test_what_is_done_meanwhile_is_done_with_a_slot_or_a_place_and_not_without() -> None:
    line = Line(Admission(capacity=1, max_waiting=1))
    seen: list[tuple[int, int]] = []

    async def note() -> None:
        seen.append((line.admission.running, line.admission.waiting))

    await line.join("first", meanwhile=note)
    await line.join("second", meanwhile=note)
    assert seen == [(1, 0), (1, 1)], "not first when the slot is there"
    with pytest.raises(Busy):
        async with line.admission.slot(meanwhile=note):
            pass
    assert len(seen) == 2
    await line.all_leave()


@pytest.mark.parametrize("taken", [False, True], ids=["a slot", "a place"])
async def test_what_fails_meanwhile_gives_the_slot_or_place_back(taken: bool) -> None:
    line = Line(Admission(capacity=1, max_waiting=1))

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    if taken:
        await line.join("first")
    with pytest.raises(ZeroDivisionError):
        async with line.admission.slot(meanwhile=fail):
            pass
    assert (line.admission.running, line.admission.waiting) == (int(taken), 0)
    await line.all_leave()


async def test_a_turn_that_comes_meanwhile_is_kept_and_passed_on_where_it_fails() -> None:
    line = Line(Admission(capacity=1, max_waiting=5))
    go_on, fails = asyncio.Event(), False

    async def slow() -> None:
        await go_on.wait()
        if fails:
            raise ZeroDivisionError

    await line.join("first")
    task = await line.join("second", meanwhile=slow)
    await line.join("third")
    await line.leave("first")
    assert (line.admission.running, line.inside) == (1, ["first"])
    fails = True
    go_on.set()
    await settle()
    assert isinstance(task.exception(), ZeroDivisionError)
    assert line.inside == ["first", "third"]
    await line.all_leave()
    assert line.admission.running == 0


async def test_it_reports_every_change() -> None:
    told: list[tuple[int, int]] = []
    line = Line(Admission(1, 2, lambda running, waiting: told.append((running, waiting))))
    await line.join("first")
    await line.join("second")
    await line.join("third")
    line.hang_up("third")
    await settle()
    await line.leave("first")
    await line.leave("second")
    assert told == [(1, 0), (1, 1), (1, 2), (1, 1), (1, 0), (0, 0)]


def wait_s(admission: Admission) -> float:
    return admission.retry_after_ms() / 1000


async def test_retry_after_grows_with_the_queue_and_falls_with_the_slots() -> None:
    one, four = Line(Admission(1, None)), Line(Admission(4, None))
    assert wait_s(one.admission) == FIRST_GUESS_HOLD_S
    assert wait_s(four.admission) == FIRST_GUESS_HOLD_S / 4
    for number in range(4):
        await one.join(str(number))
    assert wait_s(one.admission) == FIRST_GUESS_HOLD_S * 4
    for number in range(40):
        await one.join(f"more {number}")
    assert one.admission.retry_after_ms() == RETRY_AFTER_MAX_MS
    await one.all_leave()
    assert Admission(1_000, None).retry_after_ms() == RETRY_AFTER_MIN_MS


class Clock:
    """The admission's clock, moved by hand."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(admission_room, "time", made)
    return made


async def test_retry_after_learns_how_long_slots_are_held(clock: Clock) -> None:
    admission = Admission(1, None)
    async with admission.slot():
        clock.now_s += 12.0
    learned_s = FIRST_GUESS_HOLD_S + SMOOTHING * (12.0 - FIRST_GUESS_HOLD_S)
    assert wait_s(admission) == pytest.approx(learned_s, abs=0.001)
    for _ in range(60):
        async with admission.slot():
            pass
    assert admission.retry_after_ms() == RETRY_AFTER_MIN_MS


async def test_waiting_is_told_and_is_no_holding(clock: Clock) -> None:
    line = Line(Admission(1, None))
    await line.join("first")
    await line.join("second")
    clock.now_s += 50.0
    await line.leave("first")
    assert (line.waited_s["first"], line.waited_s["second"]) == (0.0, 50.0)
    after_first_s = wait_s(line.admission)
    await line.leave("second")
    moved_s = SMOOTHING * (0.0 - after_first_s)
    assert wait_s(line.admission) == pytest.approx(after_first_s + moved_s, abs=0.01)


async def test_a_withheld_slot_goes_to_nobody_before_its_time() -> None:
    admission = Admission(1, 4)
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    order: list[str] = []

    async def wait(name: str) -> None:
        async with admission.slot():
            order.append(name)

    async with admission.slot():
        waiting = asyncio.create_task(wait("second"))
        await settle()
        admission.withhold(done)
    assert (admission.running, admission.waiting) == (1, 1)
    await settle()
    assert order == []
    done.set_result(None)
    await waiting
    assert order == ["second"]
    assert (admission.running, admission.waiting) == (0, 0)


async def test_withheld_slots_leave_the_others_to_be_had() -> None:
    admission = Admission(2, 0)
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    async with admission.slot():
        admission.withhold(done)
    async with admission.slot():
        with pytest.raises(Busy):
            async with admission.slot():
                pass
    done.set_result(None)
    await settle()
    assert admission.running == 0


async def test_patience_ends_in_the_queue_and_not_in_the_slot() -> None:
    admission = Admission(1, 4)
    async with admission.slot(patience_s=0.05):
        with pytest.raises(DeadlineExceeded, match=r"No slot within 0.05 s"):
            async with admission.slot(patience_s=0.05):
                pass
        await asyncio.sleep(0.1)
    assert (admission.running, admission.waiting) == (0, 0)
