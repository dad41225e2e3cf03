"""Room for the bodies of requests: how many of a kind, and of how many bytes together.

What one body may have is bounded elsewhere (``limits.py``); here it is what all of them may have
at once, from the first byte until their requests are answered, while they lie in memory or in
temporary files. Without it, clients that send slowly and never end could fill both. What callers
usually send is short, and fits into what is every body's own: such clients leave it room.
"""

from __future__ import annotations

from vivavoce.errors import TooManyBodies

UPLOADS_AT_ONCE = 64
"""Forms that are received, wait for a slot, or are spoken."""

UPLOAD_BYTES = 128 * 1024 * 1024
PLAIN_BYTES = 64 * 1024 * 1024
"""Of all bodies that are no forms."""

OWN_BYTES = 16 * 1024
"""Of each body that is no form, not counted with those of the others."""

RETRY_MS = 2_000


class BodySpace:
    """Room for bodies of one kind; ``most`` None is no bound on their number.

    ``own_bytes`` of each are not counted.
    """

    def __init__(self, most_bytes: int, most: int | None = None, own_bytes: int = 0) -> None:
        self.most_bytes = most_bytes
        self.most = most
        self.own_bytes = own_bytes
        self.count = 0
        self.used_bytes = 0

    def enter(self) -> Body:
        """Count one in; leave it at the end. Raises TooManyBodies."""
        if self.most is not None and self.count >= self.most:
            raise _too_many(f"{self.count} uploads are under way, as many as may be.")
        self.count += 1
        return Body(self)


class Body:
    """One body, as far as it has come."""

    __slots__ = ("_size", "_space")

    def __init__(self, space: BodySpace) -> None:
        self._space = space
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes that have come."""
        return self._size

    def take(self, size: int) -> None:
        """Count some more of it. Raises TooManyBodies where all together become too much."""
        before = self._shared_bytes
        self._size += size
        more = self._shared_bytes - before
        if more and self._space.used_bytes + more > self._space.most_bytes:
            self._size -= size
            raise _too_many("The bodies of other requests leave no room for this one.")
        self._space.used_bytes += more

    def leave(self) -> None:
        """Its request is over."""
        self._space.used_bytes -= self._shared_bytes
        self._space.count -= 1

    @property
    def _shared_bytes(self) -> int:
        return max(0, self._size - self._space.own_bytes)


def _too_many(message: str) -> TooManyBodies:
    return TooManyBodies(message, retry_after_ms=RETRY_MS)
