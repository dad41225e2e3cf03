"""``vivavoce`` whose device is lost from the moment on that a file is there, as CUDA loses one.

LOST_WHEN names the file, LOST_IN the method of a batch that sees it first, LOST_AS the class of the
error. From then on everything that needs the device fails alike, what gives memory back included.
"""

from __future__ import annotations

import builtins
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vivavoce.cli.main import main
from vivavoce.engines.qwen3 import model
from vivavoce.engines.qwen3.batch import Batch
from vivavoce.engines.qwen3.frame_runner import EagerRunner
from vivavoce.runtime import cuda

WORDS = "CUDA error: an illegal memory access was encountered"
FRAME_S = 0.005
"""So that nobody has said everything before the device is lost."""


class Device:
    def __init__(self, file: Path, where: str, kind: str) -> None:
        self.lost = False
        self.file, self.where = file, where
        self.error: Any = getattr(torch, kind, None) or getattr(builtins, kind)

    def needed(self, owner: Any, name: str) -> None:
        """Have a function of ``owner`` fail once the device is lost."""
        usual: Callable[..., Any] = getattr(owner, name)

        def called(*args: Any, **how: Any) -> Any:
            if name == "launch":
                time.sleep(FRAME_S)
            if owner is Batch and name == self.where:
                self.lost = self.lost or self.file.exists()
            if self.lost:
                raise self.error(WORDS)
            return usual(*args, **how)

        setattr(owner, name, called)


if __name__ == "__main__":
    device = Device(Path(os.environ["LOST_WHEN"]), os.environ["LOST_IN"], os.environ["LOST_AS"])
    for method in ("start", "launch", "send", "extend", "finish", "release", "close"):
        device.needed(Batch, method)
    device.needed(EagerRunner, "decode")
    device.needed(model, "give_back")
    device.needed(cuda, "empty_cache")
    main()
