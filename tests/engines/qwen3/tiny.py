"""Tiny configurations with the published topology, random weights, and a plain way to run a row."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vivavoce.engines.qwen3.config import ModelKind, Qwen3Config
from vivavoce.engines.qwen3.frame import FrameIds, frame
from vivavoce.engines.qwen3.prompt import Plan, PromptInputs, embed, plan
from vivavoce.engines.qwen3.rows import RowOptions, Rows
from vivavoce.engines.qwen3.talker import Talker
from vivavoce.runtime.kernels.frame_ends import Status
from vivavoce.runtime.nn.sampling import Draw, SamplerOptions

torch.set_num_threads(1)  # tiny tensors are slower on many

DATA = Path(__file__).parents[2] / "data" / "qwen3"
GREEDY = RowOptions(
    talker=SamplerOptions(greedy=True), codes=SamplerOptions(greedy=True), max_frames=8
)
TEXT_IDS = {
    "im_start_token_id": 900,
    "im_end_token_id": 901,
    "tts_pad_token_id": 902,
    "tts_bos_token_id": 903,
    "tts_eos_token_id": 904,
    "assistant_token_id": 905,
}


def tiny_json(kind: ModelKind, *, wide: bool = False, groups: int = 16) -> dict[str, Any]:
    """A config.json of two layers; ``wide``: the talker is wider than the code predictor."""
    data: dict[str, Any] = json.loads((DATA / "config_0.6b_customvoice.json").read_text())
    stack = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "num_code_groups": groups,
    }
    data |= TEXT_IDS | {"tts_model_type": kind, "tts_model_size": "1b7" if wide else "0b6"}
    talker = data["talker_config"]
    talker |= stack | {"hidden_size": 48 if wide else 32, "text_hidden_size": 24}
    talker |= {"text_vocab_size": 910, "max_position_embeddings": 1024}
    talker["rope_scaling"] = talker["rope_scaling"] | {"mrope_section": [4, 2, 2]}
    talker["code_predictor_config"] |= stack | {"layer_types": ["full_attention"] * 2}
    if kind != "custom_voice":
        talker |= {"spk_id": {}, "spk_is_dialect": {}}
    if kind == "base":
        encoder = {"enc_dim": talker["hidden_size"], "sample_rate": 24000}
        data["speaker_encoder_config"] = encoder
    return data


def config_of(data: dict[str, Any]) -> Qwen3Config:
    """The configuration in a config.json, with the published sampling and codec."""
    files = DATA / "checkpoint_files"
    codec = json.loads((files / "speech_tokenizer" / "config.json").read_text())
    groups = data["talker_config"]["num_code_groups"]
    codec["encoder_valid_num_quantizers"] = codec["decoder_config"]["num_quantizers"] = groups
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config.json").write_text(json.dumps(data))
        shutil.copy(files / "generation_config.json", folder)
        (folder / "speech_tokenizer").mkdir()
        (folder / "speech_tokenizer" / "config.json").write_text(json.dumps(codec))
        return Qwen3Config.load(folder)


def tiny_talker(config: Qwen3Config, seed: int = 0, dtype: torch.dtype = torch.float32) -> Talker:
    """Random weights, large enough that rows differ and scores spread."""
    generator = torch.Generator().manual_seed(seed)
    talker = Talker(config.talker).eval()
    for name, parameter in talker.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name:
            parameter.data = 1 + 0.2 * noise
        elif parameter.dim() == 1:
            parameter.data = 0.1 * noise
        else:
            embedding = "embedding" in name
            parameter.data = noise * (1.0 if embedding else 1.5 * parameter.shape[1] ** -0.5)
    return talker.to(dtype)


def louder_end(talker: Talker, config: Qwen3Config, factor: float = 4.0) -> None:
    """Make the end of speech a frequent draw."""
    with torch.no_grad():
        talker.codec_head.weight[config.talker.codec_eos_token_id] *= factor


@dataclass
class Bench:
    """One model and fixed buffers, for tests that drive rows frame by frame."""

    config: Qwen3Config
    talker: Talker
    rows: Rows

    @classmethod
    def build(
        cls,
        config: Qwen3Config,
        talker: Talker | None = None,
        *,
        rows: int = 1,
        positions: int = 128,
        dtype: torch.dtype = torch.float32,
    ) -> Bench:
        talker = talker or tiny_talker(config, dtype=dtype)
        like = talker.codec_head.weight.detach()
        return cls(config, talker, Rows(config.talker, rows, positions, like))

    def start(self, row: int, speaking: PromptInputs, options: RowOptions) -> Plan:
        """Plan, prefill and admit."""
        laid = plan(self.config, speaking)
        hidden = self.rows.prefill(self.talker, row, embed(self.talker, laid.rows, speaking))
        self.rows.admit(
            row, hidden, len(laid.rows), laid.trailing, options, text_open=laid.text_open
        )
        return laid

    def frame(self, draw: Draw | None = None) -> list[tuple[Status, Tensor]]:
        """One frame: status and codes of each row."""
        state = self.rows.state
        span = state.text.shape[1]
        frame(self.talker, state, FrameIds.of(self.config), span, draw)
        return [
            (Status(int(status)), codes.clone())
            for status, codes in zip(state.status, state.codes, strict=True)
        ]


def alone(
    bench: Bench, speaking: PromptInputs, options: RowOptions, draw: Draw | None = None
) -> tuple[Tensor, Status]:
    """Codes [T, 16] of one row until it ends, and its last status."""
    bench.start(0, speaking, options)
    codes, status = [], Status(0)
    for status, row in _until_idle(bench, draw):
        if Status.EMITTED in status:
            codes.append(row)
    bench.rows.release(0)
    empty = torch.zeros((0, bench.config.talker.num_code_groups), dtype=torch.int64)
    return torch.stack(codes) if codes else empty, status


def _until_idle(bench: Bench, draw: Draw | None) -> Iterator[tuple[Status, Tensor]]:
    over = Status.ENDED | Status.LIMIT | Status.FAILED
    while True:
        result = bench.frame(draw)[0]
        yield result
        if result[0] & over:
            return


def with_frames(options: RowOptions, frames: int) -> RowOptions:
    """The same options with another limit."""
    return replace(options, max_frames=frames)
