"""A worker's fault costs the request that it had, and nothing else."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vivavoce.errors import Draining, SetupError, Unavailable, WorkerDied
from vivavoce.runtime.worker import WorkerPool, ask_once
from vivavoce.runtime.worker_child import Bounds

MODULE = "runtime.faulty_child"
BOUNDS = Bounds(
    memory_bytes=256 * 1024**2, cpu_s=5, wall_s=20, request_bytes=4_000_000, answer_bytes=4_000_000
)
PATIENCE_S = 60.0


@asynccontextmanager
async def pool(
    bounds: Bounds = BOUNDS, *, at_most: int = 2, idle_s: float = 60.0
) -> AsyncIterator[WorkerPool]:
    made = WorkerPool(MODULE, bounds, at_most=at_most, idle_s=idle_s)
    try:
        yield made
    finally:
        await made.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - any condition, not only events
            await asyncio.sleep(0.01)


def runs(pid: int) -> bool:
    """Whether a process is there and is not only waiting to be reaped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


async def test_nothing_runs_before_the_first_request_and_one_process_serves_many() -> None:
    async with pool() as workers:
        assert workers.pids == []
        for size in (0, 1, 3_000_000):
            request = b"x" + bytes(size)
            assert await workers.ask(request) == request
        assert len(workers.pids) == workers.started == 1


DEADLY = pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (b"crash", "crashed"),
        (b"raise", "crashed"),
        (b"exit", "crashed"),
        (b"memory", "too much memory"),
        (b"hang", "too long"),
        (b"spin", "too long"),
    ],
)


@DEADLY
async def test_a_worker_that_dies_costs_its_request_and_is_replaced(
    request_: bytes, reason: str
) -> None:
    async with pool(replace(BOUNDS, cpu_s=0, wall_s=1)) as workers:
        assert await workers.ask(b"before") == b"before"
        with pytest.raises(WorkerDied, match=reason):
            await workers.ask(request_)
        assert workers.pids == []
        assert await workers.ask(b"after") == b"after"
        assert (workers.started, workers.died) == (2, 1)


async def test_an_answer_beyond_its_bound_is_not_read() -> None:
    async with pool(replace(BOUNDS, answer_bytes=1_000)) as workers:
        with pytest.raises(WorkerDied):
            await workers.ask(b"long")
        assert await workers.ask(b"short") == b"short"


async def test_a_request_beyond_its_bound_is_not_taken() -> None:
    async with pool(replace(BOUNDS, request_bytes=1_000)) as workers:
        with pytest.raises(WorkerDied):
            await workers.ask(bytes(1_000_000))


async def test_what_libraries_print_does_not_disturb_the_answers() -> None:
    async with pool() as workers:
        for _ in range(2):
            assert await workers.ask(b"chatter") == b"chatter"
        assert workers.died == 0


async def test_a_worker_writes_no_files(tmp_path: Path) -> None:
    async with pool() as workers:
        with pytest.raises(WorkerDied):
            await workers.ask(b"file " + str(tmp_path / "x").encode())
    assert not (tmp_path / "x").exists() or not (tmp_path / "x").stat().st_size


async def test_a_worker_knows_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIVAVOCE_API_KEYS", "very secret")
    async with pool() as workers:
        assert await workers.ask(b"environment VIVAVOCE_API_KEYS") == b""
        assert await workers.ask(b"environment PATH") == os.environ["PATH"].encode()


async def test_no_more_than_a_few_work_at_once() -> None:
    async with pool(at_most=2) as workers:
        most = 0

        async def ask() -> None:
            nonlocal most
            await workers.ask(b"x")
            most = max(most, len(workers.pids))

        await asyncio.gather(*(ask() for _ in range(20)))
        assert most <= 2
        assert workers.started <= 2


async def test_a_caller_who_leaves_ends_the_work() -> None:
    async with pool(at_most=1) as workers:
        await workers.ask(b"x")
        (pid,) = workers.pids
        asking = asyncio.create_task(workers.ask(b"hang"))
        await until(lambda: not workers._free)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await until(lambda: not runs(pid))
        assert await workers.ask(b"next") == b"next"
        assert workers.died == 0, "nobody's fault"


async def test_a_caller_who_leaves_while_it_waits_takes_nothing_along() -> None:
    async with pool(at_most=1) as workers:
        first = asyncio.create_task(workers.ask(b"hang"))
        second = asyncio.create_task(workers.ask(b"x"))
        await until(lambda: bool(workers.pids))
        second.cancel()
        first.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        assert await workers.ask(b"next") == b"next"


async def test_idle_workers_end() -> None:
    async with pool(idle_s=0.3) as workers:
        pid = int(await workers.ask(b"pid"))
        await until(lambda: not runs(pid))
        await until(lambda: workers.pids == [])
        assert await workers.ask(b"again") == b"again"


async def test_a_worker_in_use_does_not_end_as_idle() -> None:
    async with pool(idle_s=0.3) as workers:
        pids = set()
        for _ in range(12):
            pids.add(await workers.ask(b"pid"))
            await asyncio.sleep(0.1)
        assert len(pids) == 1


async def test_a_worker_that_died_while_idle_costs_nobody_anything() -> None:
    async with pool() as workers:
        pid = int(await workers.ask(b"pid"))
        os.kill(pid, signal.SIGKILL)
        await until(lambda: all(each.process.returncode is not None for each in workers._workers))
        assert await workers.ask(b"x") == b"x"
        assert workers.died == 0


async def test_close_ends_all_and_takes_no_more() -> None:
    async with pool() as workers:
        idle = int(await workers.ask(b"pid"))
        hanging = asyncio.create_task(workers.ask(b"hang"))
        await until(lambda: workers._free == [])
        await workers.close()
        await until(lambda: not runs(idle))
        with pytest.raises(WorkerDied):
            await hanging
        with pytest.raises(Draining):
            await workers.ask(b"x")


async def test_a_module_that_cannot_start_is_a_fault_of_the_setup(
    caplog: pytest.LogCaptureFixture,
) -> None:
    workers = WorkerPool("vivavoce.runtime.nothing_of_that_name", BOUNDS)
    with pytest.raises(SetupError) as caught:
        await workers.ask(b"x")
    assert "/" not in caught.value.message
    assert "nothing_of_that_name" in caplog.records[-1].why  # type: ignore[attr-defined]
    await workers.close()


async def test_where_the_system_has_no_process_to_give_it_may_have_one_later() -> None:
    async with pool() as workers:
        with pytest.MonkeyPatch.context() as patch:

            async def refuse(*_: Any, **__: Any) -> None:
                raise OSError(errno.EMFILE, "Too many open files")

            patch.setattr(asyncio, "create_subprocess_exec", refuse)
            with pytest.raises(Unavailable):
                await workers.ask(b"x")
        assert await workers.ask(b"x") == b"x"


def test_one_request_without_an_event_loop() -> None:
    assert ask_once(MODULE, BOUNDS, b"hello") == b"hello"
    with pytest.raises(WorkerDied, match="crashed"):
        ask_once(MODULE, BOUNDS, b"crash")
    with pytest.raises(WorkerDied, match="memory"):
        ask_once(MODULE, BOUNDS, b"memory")
    with pytest.raises(SetupError):
        ask_once("vivavoce.runtime.nothing_of_that_name", BOUNDS, b"x")


OWNER = """
import asyncio, sys
from vivavoce.runtime.worker import WorkerPool
from runtime.test_worker import MODULE, SHORT

async def main():
    pool = WorkerPool(MODULE, SHORT)
    await asyncio.gather(pool.ask(b"pid"), pool.ask(b"pid"))
    print(*pool.pids, flush=True)
    if sys.argv[1] == "busy":
        await asyncio.gather(pool.ask(b"hang"), pool.ask(b"spin"))
    await asyncio.sleep(3600)

asyncio.run(main())
"""
SHORT = replace(BOUNDS, wall_s=3)


@pytest.mark.parametrize("work", ["idle", "busy"])
def test_a_killed_server_leaves_no_orphan(work: str) -> None:
    path = os.pathsep.join(filter(None, sys.path))
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, work],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert owner.stdout is not None
    pids = [int(word) for word in owner.stdout.readline().split()]
    owner.kill()
    owner.wait()
    owner.stdout.close()
    until_s = time.monotonic() + PATIENCE_S
    while any(map(runs, pids)) and time.monotonic() < until_s:
        time.sleep(0.05)
    assert pids
    assert not any(map(runs, pids))
