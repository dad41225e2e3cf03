"""Slots and the queue: bounded, fair by priority, and never leaking."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.errors import Busy, DeadlineExceeded
from vivavoce.speech.admission import RETRY_AFTER_MAX_MS, RETRY_AFTER_MIN_MS, Admission
from vivavoce.types import Priority


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


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
