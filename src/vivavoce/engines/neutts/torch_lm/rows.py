"""The fixed buffers of all rows on the device, and what the host writes into them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from vivavoce.engines.neutts.backbone import TokenSampling
from vivavoce.engines.neutts.torch_lm.config import LmConfig
from vivavoce.engines.neutts.torch_lm.kv import KVBuffer
from vivavoce.engines.neutts.torch_lm.noise import split_seed
from vivavoce.engines.neutts.torch_lm.rope import rope_table
from vivavoce.runtime.nn.rope import RopeTable


@dataclass(frozen=True, slots=True)
class RowState:
    """Everything a step reads and writes. B rows; P = context + 1 positions; C choices.

    A row is ``active`` from the end of its prefill to its own. ``tokens`` [B] is what goes in
    next, ``positions`` [B] where; rows that are not active stand on the last position, which no
    row looks at. ``counts`` [B] codes are made of ``limits`` [B]. ``prompts`` [B, context] holds
    token ids. ``scores`` [B, C] and ``drawn`` [B] are a step's results.
    """

    kv: KVBuffer
    rope: RopeTable
    prompts: Tensor
    tokens: Tensor
    positions: Tensor
    counts: Tensor
    limits: Tensor
    active: Tensor
    seeds: Tensor
    greedy: Tensor
    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    min_tokens: Tensor
    scores: Tensor
    drawn: Tensor

    @classmethod
    def build(
        cls, config: LmConfig, rows: int, context: int, choices: int, like: Tensor
    ) -> RowState:
        """Idle rows; ``like`` gives the dtype and device of keys and values."""
        device, positions = like.device, context + 1
        layers, groups = config.num_hidden_layers, config.num_key_value_heads

        def numbers(*size: int) -> Tensor:
            return torch.zeros(size, dtype=torch.int64, device=device)

        def reals(*size: int) -> Tensor:
            return torch.ones(size, dtype=torch.float32, device=device)

        return cls(
            kv=KVBuffer.zeros((layers, rows, groups, positions, config.head_dim), like),
            rope=rope_table(config, positions, like),
            prompts=numbers(rows, context),
            tokens=numbers(rows),
            positions=numbers(rows) + context,
            counts=numbers(rows),
            limits=numbers(rows),
            active=numbers(rows).bool(),
            seeds=numbers(rows, 2),
            greedy=numbers(rows).bool(),
            temperature=reals(rows),
            top_k=numbers(rows) + 1,
            top_p=reals(rows),
            min_p=reals(rows) * 0,
            min_tokens=numbers(rows),
            scores=reals(rows, choices),
            drawn=numbers(rows),
        )

    @property
    def idle_position(self) -> int:
        """Where rows stand that are not active."""
        return self.prompts.shape[1]

    def first(self, rows: int) -> RowState:
        """A view of the first rows, sharing memory: a smaller batch over the same buffers."""
        parts: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            parts[field.name] = value[:rows] if isinstance(value, Tensor) else value
        parts["kv"] = self.kv.rows(0, rows)
        return RowState(**parts)

    def write_prompt(self, row: int, ids: Sequence[int]) -> None:
        """Put a prompt on the device, without waiting for what runs there."""
        given = torch.tensor(ids, dtype=torch.int64)
        if self.prompts.device.type == "cuda":
            given = given.pin_memory()
        self.prompts[row, : len(ids)].copy_(given, non_blocking=True)

    def start(self, row: int, length: int, sampling: TokenSampling, limit: int) -> None:
        """Make a row active whose first ``length - 1`` prompt positions are evaluated."""
        self.tokens[row] = self.prompts[row, length - 1]
        self.positions[row] = length - 1
        self.counts[row] = 0
        self.limits[row] = limit
        self.greedy[row] = sampling.greedy
        self.temperature[row] = 1.0 if sampling.greedy else sampling.temperature
        self.top_k[row] = sampling.top_k
        self.top_p[row] = sampling.top_p
        self.min_p[row] = sampling.min_p
        self.min_tokens[row] = sampling.min_tokens
        for half, value in enumerate(split_seed(sampling.seed)):
            self.seeds[row, half] = value
        self.active[row] = True

    def stop(self, row: int) -> None:
        """Make a row idle, whatever it is doing."""
        self.active[row] = False
        self.positions[row] = self.idle_position
