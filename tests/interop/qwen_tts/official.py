"""Runs the published qwen-tts classes on given weights and prompts: ``python official.py FOLDER``.

Reads FOLDER/jobs.pt (``models``: name to config and state; ``cases``: see ``run``) and writes
FOLDER/codes.npz with int64 [frames, groups] under each case's name. Needs nothing of vivavoce.
"""

from __future__ import annotations

import importlib.machinery
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch


def without_unused_imports() -> None:
    """Stand-ins for modules that only the unreleased 25 Hz tokenizer uses."""
    for name in ("torchaudio", "torchaudio.compliance", "torchaudio.compliance.kaldi", "sox"):
        stub(name)
    stub("onnxruntime")


def stub(name: str) -> None:
    """An empty module."""
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
    module.__path__ = []
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)


def build(description: dict[str, Any]) -> Any:
    """The published model with the given weights, fp32."""
    from qwen_tts.core.models.configuration_qwen3_tts import Qwen3TTSConfig
    from qwen_tts.core.models.modeling_qwen3_tts import Qwen3TTSForConditionalGeneration

    model = Qwen3TTSForConditionalGeneration(Qwen3TTSConfig(**description["config"])).eval()
    model.talker.load_state_dict(description["state"], strict=True)
    return model


def run(model: Any, case: dict[str, Any]) -> np.ndarray:
    """One utterance. ``case`` has ids, voice, layout, ``generate`` options and ``seed``."""
    config = model.config
    newline, user = 198, 872
    begin = [config.im_start_token_id, config.assistant_token_id, newline]
    end = [config.im_end_token_id, newline]
    arguments = dict(case["generate"])
    arguments["input_ids"] = [ids([*begin, *case["text_ids"], *end, *begin])]
    arguments["languages"] = [case["language"]]
    arguments["speakers"] = [case["speaker"]]
    arguments["non_streaming_mode"] = case["whole"]
    if case["instruct_ids"]:
        start = [config.im_start_token_id, user, newline]
        arguments["instruct_ids"] = [ids([*start, *case["instruct_ids"], *end])]
    if case["x_vector"] is not None:
        in_context = case["ref_codes"] is not None
        arguments["voice_clone_prompt"] = {
            "ref_code": [case["ref_codes"]],
            "ref_spk_embedding": [case["x_vector"]],
            "x_vector_only_mode": [not in_context],
            "icl_mode": [in_context],
        }
        if in_context:
            arguments["ref_ids"] = [ids([*begin, *case["ref_ids"], *end])]
    torch.manual_seed(case["seed"])
    codes, _ = model.generate(**arguments)
    return codes[0].numpy()


def ids(values: list[int]) -> torch.Tensor:
    """Token ids as a batch of one."""
    return torch.tensor([values])


def main(folder: Path) -> None:
    """All cases, each model built once."""
    warnings.filterwarnings("ignore")
    without_unused_imports()
    torch.set_num_threads(1)
    jobs = torch.load(folder / "jobs.pt", weights_only=True)
    models = {name: build(description) for name, description in jobs["models"].items()}
    codes = {case["name"]: run(models[case["model"]], case) for case in jobs["cases"]}
    np.savez(folder / "codes.npz", **codes)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
