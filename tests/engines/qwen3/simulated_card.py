"""A card whose memory is a number, as PyTorch's allocator and other programs share one."""

from __future__ import annotations

from vivavoce.runtime.cuda import CardMemory


class OutOfMemoryError(RuntimeError):
    """Named like that of PyTorch."""


class SimulatedCard:
    """``used`` of what this process has ``reserved``; others have the rest, or it is free."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.others = self.reserved = self.used = 0
        self.limit_bytes: int | None = None

    @property
    def free(self) -> int:
        return self.total - self.others - self.reserved

    def memory(self) -> CardMemory:
        return CardMemory(self.total, self.free, self.reserved)

    def take(self, size_bytes: int) -> None:
        """From what is reserved, and what is free. Raises OutOfMemoryError."""
        more = max(0, self.used + size_bytes - self.reserved)
        limit = self.total if self.limit_bytes is None else self.limit_bytes
        if more > self.free or self.reserved + more > limit:
            raise OutOfMemoryError(f"CUDA out of memory. Tried to allocate {more} bytes.")
        self.reserved += more
        self.used += size_bytes

    def hold(self, size_bytes: int) -> None:
        self.take(size_bytes)
        self.used -= size_bytes

    def limit(self, size_bytes: int | None) -> None:
        self.limit_bytes = size_bytes

    def others_take(self, share: float) -> None:
        """Of what is free."""
        self.others += round(self.free * share)

    def free_all(self) -> None:
        """The model is unloaded, and the cache emptied."""
        self.used = self.reserved = 0
