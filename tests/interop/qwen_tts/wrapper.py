"""Asks the published package as its users do: ``python wrapper.py FOLDER``.

Reads FOLDER/jobs.json (name, model folder, method, arguments) and writes FOLDER/codes.npz: under
each job's name the codes that ``generate`` gave, int64 [frames, groups], and under ``NAME.sound``
the samples that came back. Needs nothing of vivavoce.
"""

from __future__ import annotations

import json
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from official import without_unused_imports


@cache
def model(folder: str) -> Any:
    """The package's own wrapper around a checkpoint, in fp32."""
    from qwen_tts import Qwen3TTSModel

    return Qwen3TTSModel.from_pretrained(folder, dtype=torch.float32)


def run(job: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Codes and sound of one request, the best code taken throughout."""
    asked = model(job["model"])
    generate, seen = asked.model.generate, []

    def noting(**arguments: Any) -> Any:
        seen.append(generate(**arguments))
        return seen[-1]

    asked.model.generate = noting
    try:
        greedy = {"do_sample": False, "subtalker_dosample": False}
        sounds, _ = getattr(asked, job["method"])(**job["arguments"], **greedy)
    finally:
        del asked.model.generate
    return seen[0][0][0].numpy(), sounds[0]


def main(folder: Path) -> None:
    """All jobs."""
    warnings.filterwarnings("ignore")
    without_unused_imports()
    torch.set_num_threads(1)
    found = {}
    for job in json.loads((folder / "jobs.json").read_text("utf-8")):
        found[job["name"]], found[job["name"] + ".sound"] = run(job)
    np.savez(folder / "codes.npz", **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
