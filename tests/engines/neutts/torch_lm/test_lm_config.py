"""config.json is read strictly: what cannot be computed is refused by its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vivavoce.engines.neutts.torch_config import LmConfig, read_config
from vivavoce.errors import ModelFileError
from vivavoce.runtime.json_config import JsonObject
from vivavoce.runtime.nn.rope import RopeScaling, RopeTable, frequencies, rotate
from vivavoce.testing.random_lm import config_json

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def values(name: str = "neutts-nano", **changes: Any) -> dict[str, Any]:
    from vivavoce.testing.random_gguf import PUBLISHED

    given = {**config_json(PUBLISHED[name], 200_000), **changes}
    return {key: value for key, value in given.items() if value is not ...}


def read(**changes: Any) -> LmConfig:
    return read_config(JsonObject(Path("config.json"), values(**changes)))


def test_published_sizes() -> None:
    nano = read()
    assert (nano.architecture, nano.head_dim, nano.shape.qkv_bias, nano.shape.qk_norm) == (
        "llama", 64, False, False,
    )  # fmt: skip
    assert nano.rope_scaling == RopeScaling("linear", 32.0)
    air = read(name="neutts-air")
    assert (air.shape.qkv_bias, air.shape.qk_norm, air.rope_scaling, air.tied) == (
        True,
        False,
        None,
        True,
    )
    assert read(name="neutts-2e").shape.qk_norm


def test_what_files_leave_out() -> None:
    short = read(
        head_dim=..., num_key_value_heads=..., tie_word_embeddings=..., attention_bias=None
    )
    assert short.head_dim == 576 // 9
    assert short.num_key_value_heads == 9
    assert short.tied is None


def test_scaling_as_transformers_5_writes_it() -> None:
    rope = {"rope_type": "linear", "factor": 32.0, "rope_theta": 5e5}
    new = read(rope_parameters=rope, rope_scaling=..., rope_theta=...)
    assert new == read()
    old = read(rope_scaling={"type": "linear", "factor": 32.0})
    assert old == new


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("architectures", ["MistralForCausalLM"]),
        ("architectures", []),
        ("architectures", ...),
        ("model_type", "qwen2"),
        ("hidden_act", "gelu"),
        ("attention_bias", True),
        ("mlp_bias", True),
        ("use_sliding_window", True),
        ("num_key_value_heads", 2),
        ("num_key_value_heads", 0),
        ("hidden_size", 0),
        ("hidden_size", "576"),
        ("vocab_size", ...),
        ("head_dim", 63),
        ("rms_norm_eps", ...),
        ("rope_theta", 0),
        ("rope_scaling", {"rope_type": "yarn", "factor": 2.0}),
        ("rope_scaling", {"rope_type": "linear", "factor": 0.0}),
        ("rope_scaling", {**LLAMA3, "high_freq_factor": 1.0}),
        ("tie_word_embeddings", "yes"),
    ],
)
def test_what_is_refused(key: str, value: Any) -> None:
    with pytest.raises(ModelFileError, match=r"config\.json"):
        read(**{key: value})


def test_damaged_files(tmp_path: Path) -> None:
    for text in ("", "[]", "{"):
        (tmp_path / "config.json").write_text(text, "utf-8")
        with pytest.raises(ModelFileError):
            LmConfig.load(tmp_path)
    with pytest.raises(ModelFileError):
        LmConfig.load(tmp_path / "none")


def test_llama3_scaling_is_the_published_ramp() -> None:
    config = read(rope_scaling=LLAMA3)
    found = frequencies(64, 5e5, config.rope_scaling)
    expected = []
    for step in range(32):
        plain = 5e5 ** -(2 * step / 64)
        wavelength = 2 * np.pi / plain
        if wavelength < 8192 / 4.0:
            expected.append(plain)
        elif wavelength > 8192 / 1.0:
            expected.append(plain / 32.0)
        else:
            smooth = (8192 / wavelength - 1.0) / (4.0 - 1.0)
            expected.append((1 - smooth) * plain / 32.0 + smooth * plain)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


def test_turning_keeps_lengths_and_depends_on_distance_alone() -> None:
    config = read()
    table = RopeTable.build(64, config.head_dim, config.rope_theta, torch.zeros(1))
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 1, 1, 64)

    def product(at: int, other: int) -> torch.Tensor:
        left = rotate(query, table.cos[at], table.sin[at])
        right = rotate(key, table.cos[other], table.sin[other])
        torch.testing.assert_close(left.norm(), query.norm())
        return (left * right).sum()

    torch.testing.assert_close(product(40, 30), product(12, 2))
    assert not torch.allclose(product(40, 30), product(40, 10))
