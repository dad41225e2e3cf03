from __future__ import annotations

import math

import pytest
import torch

from vivavoce.runtime.nn.rope import RopeTable, rotate


def test_pairs_turn_by_position_times_frequency() -> None:
    table = RopeTable.build(8, 4, theta=100.0, like=torch.zeros(1))
    x = torch.tensor([1.0, 1.0, 0.0, 0.0])[None, None, None]
    turned = rotate(x, *table.at(torch.tensor([[3]])))[0, 0, 0]
    expected = [math.cos(3), math.cos(0.3), math.sin(3), math.sin(0.3)]  # 100 ** -(2 / 4) = 0.1
    assert turned.tolist() == pytest.approx(expected, abs=1e-6)


def test_products_depend_on_distance_alone() -> None:
    table = RopeTable.build(64, 16, theta=1e6, like=torch.zeros(1, dtype=torch.float64))
    query, key = torch.randn(2, 1, 1, 1, 16, dtype=torch.float64)

    def product(at: int, to: int) -> float:
        turned = rotate(query, *table.at(torch.tensor([[at]])))
        return float((turned * rotate(key, *table.at(torch.tensor([[to]])))).sum())

    assert product(5, 2) == pytest.approx(product(60, 57), abs=1e-5)
    assert product(5, 2) != pytest.approx(product(5, 4), abs=1e-3)


def test_rows_have_positions_of_their_own() -> None:
    table = RopeTable.build(16, 4, theta=10.0, like=torch.zeros(1))
    cos, _ = table.at(torch.tensor([[0, 1], [7, 8]]))
    assert cos.shape == (2, 1, 2, 4)
    assert torch.equal(cos[1, 0, 1], table.cos[8])
