"""How many threads llama.cpp takes, left to itself.

Its threads spin while they wait for each other: with all cores taken, one competing thread makes
every token ten times slower. A token is bound by memory, so that few threads do; a prompt is bound
by arithmetic, and before its end nothing else has work.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

MOST_DECODE_THREADS, MOST_PREFILL_THREADS = 4, 8


@dataclass(frozen=True, slots=True)
class Threads:
    """``decode`` while any row speaks, ``prefill`` while none does."""

    decode: int
    prefill: int


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_threads(cores: int) -> Threads:
    """Half the cores for tokens, all but one for prompts (of two cores both)."""
    decode = max(1, min(cores // 2, MOST_DECODE_THREADS))
    return Threads(decode, min(cores, max(2, min(cores - 1, MOST_PREFILL_THREADS))))
