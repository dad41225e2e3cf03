"""The live rows of a GGUF backbone, and which sequence of the context each one has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vivavoce.engines.neutts.gguf.kept_tokens import Ids
from vivavoce.engines.neutts.gguf.llama_context import LlamaContext
from vivavoce.engines.neutts.gguf.sampler import RowSampler


@dataclass(slots=True, eq=False)
class Row:
    """One prompt on its way. ``prompt`` are rows of the model, ``done`` counts evaluated tokens.

    ``shared`` tokens of the prompt are the voice's template; ``limit`` codes are made at most.
    """

    number: int
    sequence: int
    order: int
    prompt: Ids
    shared: int
    sampler: RowSampler
    limit: int
    done: int = 0
    made: int = 0
    last: Ids | None = None
    """The token drawn last, not evaluated yet; None until the prompt is."""

    @property
    def template(self) -> bytes:
        """What the voice's template is known by."""
        return self.prompt[: self.shared].tobytes()

    @property
    def next_stop(self) -> int:
        """Where the next part of the prompt ends at the latest: a template is read by itself."""
        return self.shared if self.done < self.shared else len(self.prompt)


class Rows:
    """Rows by number. They have the sequences from 0 on without a gap.

    llama.cpp evaluates tokens of several sequences at once only where those are neighbors: a gap
    would cost every token another pass over the weights, and closing it costs a copy once.
    """

    def __init__(self, context: LlamaContext, capacity: int) -> None:
        self._context, self._capacity = context, capacity
        self._rows: dict[int, Row] = {}
        self._admitted = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())

    def __contains__(self, number: int) -> bool:
        return number in self._rows

    def free(self) -> int | None:
        """The lowest number that no row has."""
        return next((n for n in range(self._capacity) if n not in self._rows), None)

    def add(self, number: int, prompt: Ids, shared: int, sampler: RowSampler, limit: int) -> None:
        """A row with a free number."""
        self._admitted += 1
        self._rows[number] = Row(
            number, len(self._rows), self._admitted, prompt, shared, sampler, limit
        )

    def remove(self, number: int) -> None:
        """Forget a row and what it holds. Unknown ones are ignored."""
        row = self._rows.pop(number, None)
        if row is None:
            return
        self._context.clear(row.sequence)
        last = max(self._rows.values(), key=lambda each: each.sequence, default=row)
        if last.sequence > row.sequence:
            if last.done:
                self._context.move(last.sequence, row.sequence)
            last.sequence = row.sequence

    def speaking(self) -> list[Row]:
        """Those whose prompt is read, in the order of their sequences."""
        found = [row for row in self._rows.values() if row.last is not None]
        return sorted(found, key=lambda row: row.sequence)

    def reading(self) -> list[Row]:
        """Those whose prompt is not read yet, in the order of arrival."""
        found = [row for row in self._rows.values() if row.last is None]
        return sorted(found, key=lambda row: row.order)
