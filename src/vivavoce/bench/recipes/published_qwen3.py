"""The published qwen-tts package at work on a checkpoint folder; run by an interpreter that has it.

    python published_qwen3.py scores FOLDER GIVEN.npz OUT.npz
    python published_qwen3.py time FOLDER DTYPE THREADS

``scores`` teacher-forces the codes in GIVEN and writes what every step scored. ``time`` loads the
model, says so in a line of JSON, and answers each line ``FRAMES`` on its standard input with the
milliseconds of one utterance in another. Needs nothing of vivavoce.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[4] / "tests" / "interop" / "qwen_tts"))

from official import ids, without_unused_imports

NEWLINE = 198
PACKAGES = ("qwen-tts", "transformers", "torch")


def main() -> None:
    """Say on the standard output only what was asked for."""
    warnings.filterwarnings("ignore")
    without_unused_imports()
    with speaking_to_stderr() as out:
        what, folder, *rest = sys.argv[1:]
        if what == "scores":
            given, target = rest
            with np.load(given) as arrays:
                found: dict[str, Any] = scores(load(folder, torch.float32), dict(arrays))
                np.savez(target, **found)
            say(out, {"versions": versions()})
        else:
            dtype, threads = rest
            torch.set_num_threads(int(threads))
            answer_times(folder, getattr(torch, dtype), out)


@contextlib.contextmanager
def speaking_to_stderr() -> Iterator[Any]:
    """The true standard output, while everything else that is printed goes to the errors."""
    out, sys.stdout = sys.stdout, sys.stderr
    try:
        yield out
    finally:
        sys.stdout = out


def say(out: Any, told: dict[str, Any]) -> None:
    """One line of JSON."""
    print(json.dumps(told), file=out, flush=True)


def load(folder: str, dtype: torch.dtype) -> Any:
    """The published model, loaded as the package loads it."""
    from qwen_tts.core.models.modeling_qwen3_tts import Qwen3TTSForConditionalGeneration
    from qwen_tts.inference.qwen3_tts_model import Qwen3TTSModel  # noqa: F401  (registers names)

    return Qwen3TTSForConditionalGeneration.from_pretrained(folder, dtype=dtype).eval()


def versions() -> dict[str, str]:
    """Of what is measured here."""
    return {name: version(name) for name in PACKAGES}


class Prompt(Exception):
    """Carries what the package would have begun to generate from."""

    def __init__(self, **given: Any) -> None:
        self.given = given


def prompt(model: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """The embeddings that ``generate`` makes before its first step."""

    def stop(**given: Any) -> None:
        raise Prompt(**given)

    model.talker.generate = stop
    try:
        model.generate(**arguments)
    except Prompt as made:
        return made.given
    finally:
        del model.talker.generate
    raise RuntimeError("the package generated without its talker")


def request(model: Any, text: list[int], speaker: str, language: str) -> dict[str, Any]:
    """What ``generate`` takes for a text, without options."""
    config = model.config
    begin = [config.im_start_token_id, config.assistant_token_id, NEWLINE]
    whole = [*begin, *text, config.im_end_token_id, NEWLINE, *begin]
    return {"input_ids": [ids(whole)], "speakers": [speaker], "languages": [language]}


@torch.inference_mode()
def scores(model: Any, given: dict[str, Any]) -> dict[str, np.ndarray]:
    """Logits of the given codes' frames: ``first`` [T, V], ``rest`` [T, 15, V'].

    ``given``: ``text`` token ids, ``codes`` [T, 16], ``speaker``, ``language``.
    """
    from transformers.cache_utils import DynamicCache

    talker, codes = model.talker, torch.from_numpy(given["codes"])
    wanted = request(model, given["text"].tolist(), str(given["speaker"]), str(given["language"]))
    begun = prompt(model, wanted)
    texts, pad = begun["trailing_text_hidden"], begun["tts_pad_embed"]
    cache, first, rest = DynamicCache(), [], []
    x = begun["inputs_embeds"]
    for number, frame in enumerate(codes):
        out = talker.model(inputs_embeds=x, past_key_values=cache, use_cache=True)
        hidden = out.last_hidden_state[:, -1:]
        first.append(talker.codec_head(hidden)[0, 0])
        rest.append(predicted(talker, hidden, frame))
        text = texts[:, number : number + 1] if number < texts.shape[1] else pad
        x = summed(talker, frame) + text
    return {"first": torch.stack(first).numpy(), "rest": torch.stack(rest).numpy()}


def predicted(talker: Any, hidden: torch.Tensor, frame: torch.Tensor) -> torch.Tensor:
    """The code predictor's logits of one frame [15, V']."""
    from transformers.cache_utils import DynamicCache

    predictor, cache = talker.code_predictor, DynamicCache()
    start = torch.cat((hidden, talker.get_input_embeddings()(frame[None, :1])), 1)
    out = predictor(inputs_embeds=start, past_key_values=cache, use_cache=True)
    logits = [out.logits[0, -1]]
    for step in range(1, len(frame) - 1):
        out = predictor(
            input_ids=frame[None, step : step + 1],
            generation_steps=step,
            past_key_values=cache,
            use_cache=True,
        )
        logits.append(out.logits[0, -1])
    return torch.stack(logits)


def summed(talker: Any, frame: torch.Tensor) -> torch.Tensor:
    """The sum of a frame's embeddings [1, 1, H]."""
    others = talker.code_predictor.get_input_embeddings()
    parts = [talker.get_input_embeddings()(frame[:1])]
    parts += [table(code[None]) for table, code in zip(others, frame[1:], strict=True)]
    return torch.cat(parts).sum(0)[None, None]


def answer_times(folder: str, dtype: torch.dtype, out: Any) -> None:
    """The worker of ``time``: the first line of its input is the request."""
    asked = json.loads(sys.stdin.readline())
    before_mb, began_s = resident_mb("VmRSS"), time.perf_counter()
    model = load(folder, dtype)
    say(
        out,
        {
            "versions": versions(),
            "load_s": round(time.perf_counter() - began_s, 2),
            "before_mb": before_mb,
            "peak_mb": resident_mb("VmHWM"),
        },
    )
    for line in sys.stdin:
        say(out, timed(model, asked, int(line)))


def timed(model: Any, asked: dict[str, Any], frames: int) -> dict[str, Any]:
    """Milliseconds of one sampled utterance of exactly so many frames."""
    marks_s = [time.perf_counter()]
    note = model.talker.register_forward_hook(lambda *_: marks_s.append(time.perf_counter()))
    arguments = request(model, asked["text"], asked["speaker"], asked["language"])
    codes, _ = model.generate(**arguments, max_new_tokens=frames + 1, non_streaming_mode=True)
    ended_s = time.perf_counter()
    note.remove()
    spent_ms = np.diff(marks_s) * 1000
    began_s = time.perf_counter()
    sounds, _ = model.speech_tokenizer.decode([{"audio_codes": codes[0]}])
    decoded_ms = (time.perf_counter() - began_s) * 1000
    return {
        "frames": len(codes[0]),
        "prompt_ms": spent_ms[0],
        "frame_ms": spent_ms[1:].tolist(),
        "whole_ms": (ended_s - marks_s[0]) * 1000,
        "decode_ms_per_frame": decoded_ms / len(codes[0]),
        "samples": len(sounds[0]),
    }


def resident_mb(which: str) -> float:
    """This process's resident memory now (VmRSS) or at most (VmHWM), MB (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith(which))
    return round(int(line.split()[1]) * 1024 / 1e6, 1)


if __name__ == "__main__":
    main()
