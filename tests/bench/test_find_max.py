from __future__ import annotations

import asyncio

import pytest

from vivavoce.bench.session import find_max


class Server:
    """Passes up to ``capacity``; a lucky run passes at ``lucky`` once."""

    def __init__(self, capacity: int, lucky: int | None = None) -> None:
        self.capacity = capacity
        self.lucky = lucky
        self.tried: list[int] = []

    async def probe(self, calls: int) -> bool:
        self.tried.append(calls)
        return calls <= self.capacity or (calls == self.lucky and self.tried.count(calls) == 1)


@pytest.mark.parametrize("capacity", [0, 1, 2, 3, 16, 21, 63, 64, 100])
def test_the_largest_that_passes_is_found(capacity: int) -> None:
    server = Server(capacity)
    assert asyncio.run(find_max(server.probe, limit=64)) == min(capacity, 64)
    assert max(server.tried) <= 64


@pytest.mark.parametrize("start", [1, 5, 64, 200])
def test_where_it_starts_does_not_matter(start: int) -> None:
    assert asyncio.run(find_max(Server(11).probe, limit=64, start=start)) == 11


def test_a_lucky_run_does_not_count() -> None:
    server = Server(9, lucky=10)
    assert asyncio.run(find_max(server.probe, limit=64)) == 9
