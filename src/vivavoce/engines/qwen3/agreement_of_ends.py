"""Whether the kernels of a frame's two ends do what plain PyTorch does, and how agreement is told.

Rows of every kind are tried beside each other: idle, in their first frame, with text and without,
closed, holding, at their limit, with numbers that are not finite; and the end of speech is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from vivavoce.engines.qwen3.fused import FusedTalker
from vivavoce.engines.qwen3.rows import RowState
from vivavoce.engines.qwen3.talker import Talker
from vivavoce.runtime.kernels import frame_ends as plain
from vivavoce.runtime.kernels.frame_ends import Turn

LEAST = 0.99
"""Cosines of vectors of the modules and of the kernels, which round alike but for sums' order."""

EXACT = (
    *("active", "primed", "positions", "frames", "cursor"),
    *("codes", "seen", "status"),
)
"""What of a row is equal, and not only alike."""

KINDS = 3
"""How often the rows are of other kinds, so that one row alone is of several."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """How well one thing agrees, in parts of what is asked for: 1 and more is enough."""

    what: str
    share: float


def ends(fused: FusedTalker, talker: Talker, view: RowState) -> Iterator[Agreed]:
    """What rows read next, and what a step and a frame's codes change; ``view`` stays as it is."""
    count, device = len(view.status), view.status.device
    for kind in range(KINDS):
        rows = torch.arange(count, device=device) + 5 * kind
        what = f"the ends of a frame of {count} rows"
        ours, theirs = (mixed(view, rows, talker.config.text_vocab_size) for _ in range(2))
        wanted = theirs.pending + talker.embed_text(plain.next_token(theirs, kind))
        yield cosine(f"{what}: the text", fused.read(ours, kind), wanted)
        for stepped in (random(view.hidden.clone(), 5 + kind), None):
            yield from _turned(fused, ours, theirs, stepped, what)


def _turned(
    fused: FusedTalker, ours: RowState, theirs: RowState, stepped: Tensor | None, what: str
) -> Iterator[Agreed]:
    """A step, or a frame without one, and codes after it: by kernels in ``ours``."""
    norm, tables = fused.model.norm, (fused.first_table, fused.others)
    pair, other = (torch.stack((ours.hidden, ours.hidden), 1).zero_() for _ in range(2))
    turn = fused.kernels.settle(ours, stepped, norm, pair)
    wanted = plain.settle(theirs, stepped, norm, other)
    yield _equal(f"{what}: whose turn it is", _flags(turn), _flags(wanted))
    yield from _alike(f"{what}, a step", ours, theirs)
    yield cosine(f"{what}: the pair", pair[:, 0, 1:], other[:, 0, 1:])
    codes = _codes(ours, min(len(tables[0]), tables[1].shape[1]))
    end = int(codes[-1, 0])
    fused.kernels.finish(ours, turn, codes, end, *tables)
    plain.sum_and_finish(theirs, wanted, codes, end, *tables)
    yield from _alike(f"{what}, codes", ours, theirs)


def mixed(view: RowState, kinds: Tensor, tokens: int) -> RowState:
    """Rows of a copy of ``view`` in all kinds of places; ``tokens``: how many texts consist of."""
    positions, most = view.text.shape[1], view.text.shape[1] - 1
    text = (kinds[:, None] * 31 + torch.arange(positions, device=kinds.device) * 7) % tokens
    hidden = random(view.hidden.clone(), 6)
    hidden[:, 0] = torch.where(kinds % 7 == 6, torch.inf, hidden[:, 0])
    return replace(
        view,
        active=kinds % 5 != 4,
        primed=kinds % 3 == 0,
        closed=kinds % 2 == 0,
        holding=kinds % 4 == 1,
        positions=kinds % positions,
        frames=kinds % 4,
        limit=kinds % 6 + 1,
        cursor=kinds % positions,
        written=((kinds + kinds % 3 - 1) % positions).clamp(0, most),
        text=text,
        seen=(kinds[:, None] + torch.arange(view.seen.shape[1], device=kinds.device)) % 3 == 0,
        hidden=hidden,
        pending=random(view.pending.clone(), 7),
        codes=view.codes.clone(),
        status=view.status.clone(),
    )


def _codes(rows: RowState, below: int) -> Tensor:
    """Some, [B, G]."""
    count, groups = rows.codes.shape
    row = torch.arange(count, device=rows.codes.device)[:, None]
    return (row * 5 + torch.arange(groups, device=rows.codes.device) * 3) % below


def _flags(turn: Turn) -> Tensor:
    return torch.stack((turn.live, turn.failed, turn.no_end))


def _alike(what: str, ours: RowState, theirs: RowState) -> Iterator[Agreed]:
    for name in EXACT:
        yield _equal(f"{what}: {name}", getattr(ours, name), getattr(theirs, name))
    yield cosine(f"{what}: hidden", ours.hidden[:, 1:], theirs.hidden[:, 1:])
    yield cosine(f"{what}: pending", ours.pending, theirs.pending)


def _equal(what: str, got: Tensor, wanted: Tensor) -> Agreed:
    return Agreed(f"{what} differ", torch.equal(got, wanted) / LEAST)


def cosine(what: str, got: Tensor, wanted: Tensor) -> Agreed:
    """The least of vectors in the last dimension."""
    cosines = functional.cosine_similarity(got.float(), wanted.float(), dim=-1)
    found = float(cosines.nan_to_num(-1.0).min())
    return Agreed(f"{what}: cosine {found:.4f}", found / LEAST)


def random(buffer: Tensor, seed: int = 0) -> Tensor:
    """Filled with normal numbers, always the same ones."""
    generator = torch.Generator(buffer.device).manual_seed(seed)
    return buffer.normal_(generator=generator)
