"""Launches every kernel as a frame does, up to the GPU itself: run as a program, without Triton's
interpreter. Its argument is a compute capability; it prints how often each kernel was made.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver, jit

from vivavoce.engines.qwen3.fused import FusedTalker
from vivavoce.engines.qwen3.rows import RowState
from vivavoce.runtime.kernels.dispatch import Path, chosen
from vivavoce.runtime.nn import int8_cpu
from vivavoce.runtime.nn.quantize import quantize_linears
from vivavoce.runtime.nn.weights import Precision

CPU = torch.device("cpu")


class NoDriver:
    """A GPU as far as compiling goes."""

    def __init__(self, capability: int) -> None:
        self._target = GPUTarget("cuda", capability, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return self._target


def launched(capability: int, precision: Precision) -> Counter[str]:
    """What a frame of three rows, and of twelve, would put onto a GPU, compiled but not run."""
    from engines.qwen3.tiny import config_of, tiny_json, tiny_talker

    int8_cpu.available = lambda: False  # as on a GPU
    made: Counter[str] = Counter()
    driver.set_active(NoDriver(capability))  # type: ignore[arg-type]
    whole = jit.JITFunction.run

    def compiled(self: Any, *args: Any, grid: Any, warmup: bool, **how: Any) -> Any:
        kernel = whole(self, *args, grid=grid, warmup=True, **how)
        assert kernel.asm["cubin"] and all(size > 0 for size in grid)
        made[self.__name__] += 1
        return kernel

    jit.JITFunction.run = compiled
    try:
        config = config_of(tiny_json("custom_voice", wide=True, groups=3))
        talker = tiny_talker(config, dtype=torch.bfloat16).requires_grad_(False)
        if precision is not Precision.NONE:
            for part in (talker.model, talker.code_predictor.model, talker.code_predictor.lm_head):
                quantize_linears(part, precision)
        fused = FusedTalker.of(talker, chosen(CPU, torch.bfloat16, Path.TRITON), 12)
        for rows in (3, 12):
            state = RowState.build(config.talker, rows, 300, talker.codec_head.weight)
            turn = fused.advance(state, 0, step=True)
            fused.speak(state, turn, config.talker.codec_eos_token_id)
    finally:
        jit.JITFunction.run = whole
    return made


if __name__ == "__main__":
    print(json.dumps(launched(int(sys.argv[1]), Precision(sys.argv[2]))))
