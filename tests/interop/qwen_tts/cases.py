"""The utterances that both engines speak: every mode, layout, ending and width."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from engines.qwen3.tiny import config_of, louder_end, tiny_json, tiny_talker
from vivavoce.engines.qwen3.config import ModelKind, Qwen3Config
from vivavoce.engines.qwen3.prompt import Layout, PromptInputs, Reference
from vivavoce.engines.qwen3.rows import RowOptions
from vivavoce.engines.qwen3.talker import Talker
from vivavoce.runtime.nn.sampling import SamplerOptions

TEXT = [31, 7, 250, 611, 48, 48, 93, 870, 12]
LONG_TEXT = TEXT * 2
INSTRUCT = [410, 77, 3, 129]
REFERENCE_TEXT = [55, 202, 17]
REFERENCE_FRAMES = 8
FRAMES = 6
FRAMES_TO_END = 60

MODES: dict[str, tuple[ModelKind, dict[str, Any]]] = {
    "speaker_english": ("custom_voice", {"speaker": "ryan", "language": "english"}),
    "speaker_auto": ("custom_voice", {"speaker": "vivian", "language": "auto"}),
    "speaker_dialect": ("custom_voice", {"speaker": "dylan", "language": "chinese"}),
    "speaker_dialect_auto": ("custom_voice", {"speaker": "eric", "language": "auto"}),
    "speaker_instruct": ("custom_voice", {"speaker": "aiden", "instruct_ids": INSTRUCT}),
    "design": ("voice_design", {"language": "german", "instruct_ids": INSTRUCT}),
    "x_vector": ("base", {"language": "french"}),
    "in_context_short": ("base", {"language": "english", "text_ids": TEXT[:3]}),
    "in_context_long": ("base", {"language": "auto", "text_ids": LONG_TEXT}),
}
GREEDY = SamplerOptions(greedy=True)
MILD = SamplerOptions(temperature=0.9, top_k=50, top_p=1.0)
SHARP = SamplerOptions(temperature=0.7, top_k=20, top_p=0.8)
ENDINGS = ("greedy", "sampled", "ended")


@dataclass(frozen=True)
class Case:
    """One utterance; ``loud`` models draw the end of speech often."""

    name: str
    model: str
    wide: bool
    loud: bool
    kind: ModelKind
    speaking: PromptInputs
    options: RowOptions

    @property
    def must_end(self) -> bool:
        return self.loud


def cases() -> list[Case]:
    """All of them, the same ones each time."""
    return [*_matrix(), *_switches()]


def _matrix() -> Iterator[Case]:
    every = product(MODES, Layout, ENDINGS, (False, True))
    for number, (mode, layout, ending, wide) in enumerate(every):
        kind, given = MODES[mode]
        if kind == "custom_voice" and "instruct_ids" in given and not wide:
            continue  # refused by the small model
        loud = ending == "ended"
        talker = {"greedy": GREEDY, "sampled": (MILD, SHARP)[number // 2 % 2]}.get(
            ending, (GREEDY, MILD)[number // 6 % 2]
        )
        options = RowOptions(
            talker=talker,
            codes=talker,
            repetition_penalty=(1.05, 1.3)[number // 2 % 2],
            seed=number,
            max_frames=FRAMES_TO_END if loud else FRAMES,
        )
        name = f"{mode}-{layout.value}-{ending}-{'wide' if wide else 'small'}"
        speaking = _speaking(mode, layout, wide)
        yield Case(name, model_name(kind, wide, loud), wide, loud, kind, speaking, options)


def _switches() -> Iterator[Case]:
    """Greedy and drawn codes do not depend on each other."""
    for number, (first, others) in enumerate(((GREEDY, MILD), (SHARP, GREEDY), (SHARP, MILD))):
        for wide in (False, True):
            options = RowOptions(talker=first, codes=others, seed=number, max_frames=FRAMES)
            speaking = _speaking("speaker_english", Layout.STREAMING, wide)
            model = model_name("custom_voice", wide, False)
            name = f"switches-{number}-{'wide' if wide else 'small'}"
            yield Case(name, model, wide, False, "custom_voice", speaking, options)


def _speaking(mode: str, layout: Layout, wide: bool) -> PromptInputs:
    kind, given = MODES[mode]
    more: dict[str, Any] = {"text_ids": TEXT, "layout": layout} | given
    generator = torch.Generator().manual_seed(99)
    if kind == "base":
        more["x_vector"] = torch.randn(48 if wide else 32, generator=generator)
    if mode.startswith("in_context"):
        codes = torch.randint(2048, (REFERENCE_FRAMES, 16), generator=generator)
        more["reference"] = Reference(REFERENCE_TEXT, codes)
    return PromptInputs(**more)


def model_name(kind: ModelKind, wide: bool, loud: bool) -> str:
    return f"{kind}-{'wide' if wide else 'small'}-{'loud' if loud else 'calm'}"


def model(case: Case) -> tuple[dict[str, Any], Qwen3Config, Talker]:
    """The case's config.json and weights: the same at every call."""
    data = tiny_json(case.kind, wide=case.wide)
    config = config_of(data)
    talker = tiny_talker(config, seed=1 + case.wide)
    if case.loud:
        louder_end(talker, config)
    return data, config, talker


def job(case: Case) -> dict[str, Any]:
    """The case as the published package's runner takes it."""
    speaking, options = case.speaking, case.options
    reference = speaking.reference
    return {
        "name": case.name,
        "model": case.model,
        "seed": options.seed,
        "text_ids": list(speaking.text_ids),
        "instruct_ids": list(speaking.instruct_ids),
        "language": speaking.language,
        "speaker": speaking.speaker,
        "x_vector": speaking.x_vector,
        "ref_ids": list(reference.text_ids) if reference else [],
        "ref_codes": reference.codes if reference else None,
        "whole": speaking.layout is Layout.WHOLE,
        "generate": {
            "max_new_tokens": options.max_frames + 1,
            "repetition_penalty": options.repetition_penalty,
            **_sampling(options.talker, "do_sample", ""),
            **_sampling(options.codes, "subtalker_dosample", "subtalker_"),
        },
    }


def _sampling(sampler: SamplerOptions, switch: str, prefix: str) -> dict[str, Any]:
    given = {name: getattr(sampler, name) for name in ("temperature", "top_k", "top_p")}
    return {switch: not sampler.greedy} | {prefix + name: value for name, value in given.items()}


def torch_draw(options: RowOptions) -> Any:
    """Draws as the published package makes them: torch.multinomial on one generator."""
    generator = torch.Generator().manual_seed(options.seed)

    def draw(scores: Tensor, group: int) -> Tensor:
        greedy = options.codes.greedy if group else options.talker.greedy
        if greedy:
            return scores.argmax(-1)
        return torch.multinomial(scores.softmax(-1), 1, generator=generator)[:, 0]

    return draw
