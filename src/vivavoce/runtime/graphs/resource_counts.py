"""What is held of a device: graphs, and memory of the host that the device copies into."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Held:
    """How much is held now. ``graph_bytes`` is memory of the device."""

    graphs: int = 0
    graph_bytes: int = 0
    host_buffers: int = 0
    host_bytes: int = 0


class Account:
    """Counts what is taken and given back."""

    def __init__(self) -> None:
        self.held = Held()

    def graph(self, change: int, size_bytes: int) -> None:
        """One graph more (``change`` 1) or less (-1)."""
        old = self.held
        graphs, total = old.graphs + change, old.graph_bytes + change * size_bytes
        self.held = Held(graphs, total, old.host_buffers, old.host_bytes)
        self._check()

    def host(self, change: int, size_bytes: int) -> None:
        """One buffer on the host more or less."""
        old = self.held
        buffers, total = old.host_buffers + change, old.host_bytes + change * size_bytes
        self.held = Held(old.graphs, old.graph_bytes, buffers, total)
        self._check()

    def _check(self) -> None:
        assert min(self.held.graphs, self.held.host_buffers) >= 0, "given back twice"
