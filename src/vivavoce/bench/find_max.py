"""The largest load that still passes, found by doubling and then by halving the gap."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

Probe: TypeAlias = Callable[[int], Awaitable[bool]]
"""Runs that many calls at once and says whether all of them went well."""


async def find_max(probe: Probe, *, limit: int, start: int = 1) -> int:
    """The largest number from 1 to ``limit`` that passes twice; 0 if not even one call does.

    The second pass guards against a lucky run; where it fails, smaller numbers are tried.
    """
    passed, failed = await _double(probe, start, limit)
    while failed - passed > 1:
        middle = (passed + failed) // 2
        if await probe(middle):
            passed = middle
        else:
            failed = middle
    while passed and not await probe(passed):
        passed -= max(1, passed // 16)
    return passed


async def _double(probe: Probe, start: int, limit: int) -> tuple[int, int]:
    """A number that passes (or 0) and a larger one that does not (or is over the limit)."""
    passed, tried = 0, min(start, limit)
    while await probe(tried):
        passed = tried
        if tried == limit:
            return passed, limit + 1
        tried = min(tried * 2, limit)
    return passed, tried
