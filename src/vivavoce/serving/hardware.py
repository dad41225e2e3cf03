"""What ``/health``, ``/v1/info`` and ``/metrics`` tell of the card and of the weights on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from vivavoce.engines.base import EngineInfo
from vivavoce.types import Gpu

MIB = 1024 * 1024
GPU_MEMORY = ("allocated", "reserved", "free", "total")


class Weights(BaseModel):
    """How the weights of one part are stored."""

    precision: str
    why: str


class Hardware(BaseModel):
    """The card, null without one, and the weights; MB are 1,048,576 bytes."""

    gpu_name: str | None = None
    gpu_allocated_mb: int | None = Field(None, description="What this process's tensors take.")
    gpu_reserved_mb: int | None = Field(None, description="What this process holds for them.")
    gpu_free_mb: int | None = Field(None, description="Of the card, whoever uses it.")
    gpu_total_mb: int | None = None
    quantize: str | None = Field(None, description="How the speaking model's weights are stored.")
    quantize_why: str | None = None
    weights: dict[str, Weights] = Field({}, description="The same for each part of the engine.")


def hardware_fields(info: EngineInfo, gpu: Gpu | None) -> dict[str, Any]:
    """What a ``Hardware`` is made of."""
    weights = {
        part: Weights(precision=stored.precision, why=stored.why)
        for part, stored in info.weights.items()
    }
    first = next(iter(weights.values()), None)
    memory = {f"gpu_{kind}_mb": size // MIB for kind, size in memory_bytes(gpu).items()}
    return {
        "gpu_name": None if gpu is None else gpu.name,
        **memory,
        "quantize": None if first is None else first.precision,
        "quantize_why": None if first is None else first.why,
        "weights": weights,
    }


def memory_bytes(gpu: Gpu | None) -> dict[str, int]:
    """Kinds of memory that are known, in bytes."""
    sizes = {kind: getattr(gpu, f"{kind}_bytes", None) for kind in GPU_MEMORY}
    return {kind: size for kind, size in sizes.items() if size is not None}


def plain(value: Any) -> Any:
    """An engine's detail as JSON has it: numbers stay numbers; what JSON has not becomes text."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each) for each in value]
    return str(value)
