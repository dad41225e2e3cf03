"""What the models take in a GPU's memory, by arithmetic over modules without memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cache, partial
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from engines.qwen3.live_bytes import most_live_bytes
from vivavoce.engines.qwen3.batch import Batch
from vivavoce.engines.qwen3.catalog import published
from vivavoce.engines.qwen3.checkpoint import open_checkpoint
from vivavoce.engines.qwen3.codec.decoder import CodecDecoder
from vivavoce.engines.qwen3.codec.encoder import CodecEncoder
from vivavoce.engines.qwen3.codec_windows import SAMPLES, SLOTS
from vivavoce.engines.qwen3.config import Qwen3Config
from vivavoce.engines.qwen3.device import choose_place
from vivavoce.engines.qwen3.frame import FrameIds, frame
from vivavoce.engines.qwen3.graphs import Capturing, PromptBuffers, _prefill
from vivavoce.engines.qwen3.memory import (
    CLONE_WORK_BYTES,
    KEPT_PROMPTS_BYTES,
    KEPT_VOICES_BYTES,
    LIBRARIES_BYTES,
    MEMORIES,
    MIB,
    PIECE_WORK_BYTES,
    WORK_BYTES,
    WORK_ROW_BYTES,
    Footprint,
    Room,
    planned_footprint,
    rows_that_fit,
)
from vivavoce.engines.qwen3.model import Model, Quantizing, load_talker, weights_bytes
from vivavoce.engines.qwen3.options import Qwen3Options
from vivavoce.engines.qwen3.pace import RAMP
from vivavoce.engines.qwen3.rows import RowState
from vivavoce.engines.qwen3.speaker import SpeakerEncoder
from vivavoce.engines.qwen3.talker import Talker
from vivavoce.engines.qwen3.tensor_shapes import codec_shapes, model_shapes
from vivavoce.errors import SetupError
from vivavoce.runtime.graphs.api import LENGTH_BUCKETS
from vivavoce.runtime.nn import int8_cpu
from vivavoce.runtime.nn.linear import quantized_bytes
from vivavoce.runtime.nn.weights import Precision
from vivavoce.testing.published_config import (
    SMALL_FILES,
    codec_config,
    model_config,
    small_file,
)
from vivavoce.testing.recorded_graphs import RecordedPool, RecordedStream, RecordingGraphs

PAGE = Path(__file__).parents[3] / "docs" / "cards.md"
POSITIONS = 1024
MB = 1_000_000
SIZES = ("0.6B", "1.7B")
LONGEST_REFERENCE_S = 60 + 5
"""A recording, and the silence that may be asked for behind it."""
CARD_GB_S = 272
"""Nominal memory bandwidth of an RTX 4060."""


@dataclass(frozen=True)
class Sum:
    """Bytes, as PyTorch allocates them on CUDA: bfloat16, the codec in float32."""

    weights: int
    codec: int
    call: int
    frame: int

    @property
    def total(self) -> int:
        return self.weights + self.codec + self.call


def config_of(size: str, folder: Path, kind: str = "CustomVoice") -> Qwen3Config:
    (folder / "speech_tokenizer").mkdir(exist_ok=True)
    for name in SMALL_FILES:
        (folder / name).write_text(small_file(name))
    model = published(f"Qwen3-TTS-12Hz-{size}-{kind}")
    (folder / "config.json").write_text(json.dumps(model_config(model)))
    (folder / "speech_tokenizer" / "config.json").write_text(json.dumps(codec_config()))
    return Qwen3Config.load(folder)


def on_meta(config: Qwen3Config) -> Talker:
    with torch.device("meta"):
        return Talker(config.talker)


def quantizing(precision: Precision) -> Quantizing:
    return Quantizing(precision, torch.bfloat16, torch.device("meta"))


def sum_of(size: str, precision: Precision, folder: Path) -> Sum:
    config = config_of(size, folder)
    talker, how = on_meta(config), quantizing(precision)
    with torch.device("meta"):
        codec = CodecDecoder(config.codec.decoder)
    row = RowState.build(
        config.talker, 1, POSITIONS, torch.zeros((), dtype=torch.bfloat16, device="meta")
    )
    return Sum(
        weights_bytes(talker, how),
        sum(each.nbytes for each in (*codec.parameters(), *codec.buffers())),
        tensor_bytes(row) + codec.row_bytes(),
        frame_bytes(talker, how),
    )


def tensor_bytes(held: Any) -> int:
    """Of a dataclass of tensors and of others like it."""
    total = 0
    for part in fields(held):
        value = getattr(held, part.name)
        total += value.nbytes if isinstance(value, torch.Tensor) else tensor_bytes(value)
    return total


def frame_bytes(talker: Talker, how: Quantizing) -> int:
    """What a frame of one row reads: the predictor's layers fifteen times, each head once."""
    passes = talker.config.code_predictor.num_code_groups - 1
    once = ["model.layers.", "codec_head.", "text_projection.", "code_predictor.lm_head."]
    once += ["code_predictor.small_to_mtp_projection."]  # codes' tables are projected already
    often = "code_predictor.model.layers."
    read = sum(weights_bytes(talker, how, part) for part in once)
    return read + passes * weights_bytes(talker, how, often)


@pytest.mark.parametrize("name", ["0.6B-CustomVoice", "1.7B-CustomVoice"])
@pytest.mark.parametrize("precision", [Precision.NONE, Precision.INT8, Precision.FP8])
def test_the_sum_is_what_is_loaded(
    name: str,
    precision: Precision,
    tiny_checkpoint: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(int8_cpu, "available", lambda: False)  # as on a GPU
    checkpoint = open_checkpoint(tiny_checkpoint(name))
    loaded = load_talker(checkpoint, torch.bfloat16, torch.device("cpu"), precision)
    held = quantized_bytes(loaded) + sum(each.nbytes for each in loaded.state_dict().values())
    assert weights_bytes(on_meta(checkpoint.config), quantizing(precision)) == held


@pytest.mark.parametrize(("size", "most_gb"), [("0.6B", 1.6), ("1.7B", 3.2)])
def test_int8_with_one_call_fits(size: str, most_gb: float, tmp_path: Path) -> None:
    assert sum_of(size, Precision.INT8, tmp_path).total <= most_gb * 1e9


def codec_window_bytes(codec: CodecDecoder, rows: int, frames: int) -> int:
    """What is alive at once while ``rows`` rows decode, as ``CodecWindows`` does it."""
    state = codec.init_state(rows + 1)
    codes = torch.zeros(rows, frames, 16, dtype=torch.int64, device="meta")
    picked = torch.zeros(rows, dtype=torch.int64, device="meta")

    def work() -> None:
        part = state.gather(picked)
        codec.decode(codes, part)
        moved = part.tensors()
        for name, tensor in state.tensors().items():
            tensor.index_copy_(0, picked, moved[name])

    return most_live_bytes(work)


def attention_in_one_kernel(query: Any, keys: Any, values: Any, **_: Any) -> Any:
    return query.new_empty(*query.shape[:-1], values.shape[-1])


@pytest.mark.parametrize("size", ["0.6B", pytest.param("1.7B", marks=pytest.mark.slow)])
def test_work_fits_into_what_is_set_aside_for_it(
    size: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted at true size: not less than needed, and not a tenth more."""
    monkeypatch.setattr(functional, "scaled_dot_product_attention", attention_in_one_kernel)
    config = config_of(size, tmp_path)
    with torch.device("meta"):
        codec = CodecDecoder(config.codec.decoder)
    talker = on_meta(config).bfloat16()
    like = talker.codec_head.weight

    @cache
    def frame_of(rows: int) -> int:
        state = RowState.build(config.talker, rows, POSITIONS, like)
        return most_live_bytes(lambda: frame(talker, state, FrameIds.of(config), POSITIONS))

    longest = max(RAMP)

    @cache
    def sound_of(rows: int) -> int:
        return codec_window_bytes(codec, rows, longest)

    sound = sound_of(3) - sound_of(2)
    sent = (SLOTS + 1) * longest * SAMPLES * 4
    row = sound + frame_of(3) - frame_of(2) + sent
    assert row <= WORK_ROW_BYTES <= 1.1 * row
    state = RowState.build(config.talker, 1, POSITIONS, like)
    held = PromptBuffers.build(max(LENGTH_BUCKETS), like)
    fixed = 3 * frame_of(2) - 2 * frame_of(3), 3 * sound_of(2) - 2 * sound_of(3)
    assert all(abs(each) <= 0.1 * MIB for each in fixed), "of what is there without a row"
    monkeypatch.undo()
    piece = most_live_bytes(partial(_prefill, talker, state, held, max(LENGTH_BUCKETS)))
    assert piece <= PIECE_WORK_BYTES <= 1.25 * piece


def test_each_memory_of_pytorch_is_counted(
    tiny_checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is captured on a stream has a pool, what is not has the stream's; and a clone's own."""
    made: list[str] = []

    class Api(RecordingGraphs):
        def stream(self, name: str, *, urgent: bool = False) -> RecordedStream:
            if name not in ("sound", "told"):  # they copy what is there
                made.append(f"stream {name}")
            return super().stream(name, urgent=urgent)

        def pool(self, *, urgent: bool = False) -> RecordedPool:
            made.append("pool")
            return super().pool(urgent=urgent)

    place = choose_place(Qwen3Options(device="cpu"))
    model = Model.load(tiny_checkpoint("0.6B-Base"), place)
    Batch(model, 1, 128, Capturing(Api())).close()
    main, cloning = 1, 1
    assert main + cloning + len(made) == MEMORIES, made


def planned_of(
    size: str, precision: Precision, folder: Path, kind: str = "CustomVoice"
) -> Footprint:
    place = replace(choose_place(Qwen3Options(device="cpu", dtype="bfloat16")), precision=precision)
    return planned_footprint(config_of(size, folder, kind), place, POSITIONS)


def encoders_by_shape(config: Qwen3Config) -> int:
    """In float32: the speaker encoder; of the codec's, all but what serves training, and codes."""
    shapes = [each for name, each in model_shapes(config).items() if name.startswith("speaker_")]
    for name, shape in codec_shapes(config.codec).items():
        needed = "quantizer." not in name or name.endswith("input_proj.weight")
        shapes += [shape] if name.startswith("encoder.") and needed else []
    codec = config.codec
    books = codec.encoder_valid_num_quantizers * codec.encoder.codebook_size
    return 4 * (sum(map(prod, shapes)) + books * codec.encoder.codebook_dim)


@pytest.mark.parametrize("size", SIZES)
def test_a_base_model_takes_its_encoders_and_room_to_clone(size: str, tmp_path: Path) -> None:
    """CustomVoice of the same size has the same talker and codec."""
    plain, base = (
        planned_of(size, Precision.INT8, tmp_path, kind) for kind in ("CustomVoice", "Base")
    )
    extra = encoders_by_shape(config_of(size, tmp_path, "Base"))
    assert replace(base, encoders=0) == plain and base.encoders == extra
    assert base.total(4) == plain.total(4) + extra + CLONE_WORK_BYTES


@pytest.mark.parametrize(
    ("kind", "rows", "budget_mb"),
    [("CustomVoice", 4, 3072), ("Base", 2, 3072), ("CustomVoice", 4, 0), ("Base", 4, 0)],
)
def test_both_kinds_start_beside_a_recognizer(
    kind: str, rows: int, budget_mb: int, tmp_path: Path
) -> None:
    """Of 0.6B in int8 on a card of 8 GB, with a recognizer that takes 3.5, and alone on it."""
    needs = planned_of("0.6B", Precision.INT8, tmp_path, kind)
    total = 8_188 * MIB
    taken = 3_500 * MB if budget_mb else 500 * MB
    room = Room(total, total - taken, budget_mb * MIB)
    assert rows_that_fit(needs, room, 16, fixed=False) == rows
    assert needs.total(rows) <= room.usual
    large = planned_of("1.7B", Precision.INT8, tmp_path)
    if budget_mb:
        with pytest.raises(SetupError, match=rf"weights .* = \d+ MB, more than the {budget_mb} MB"):
            rows_that_fit(large, room, 16, fixed=False)


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_making_a_voice_fits_into_what_is_set_aside_for_it(size: str, tmp_path: Path) -> None:
    """Of the longest recording, at true size, attention by its plain way."""
    config = config_of(size, tmp_path, "Base")
    assert config.speaker_encoder is not None
    with torch.device("meta"):
        encoder, speaker = CodecEncoder(config.codec), SpeakerEncoder(config.speaker_encoder)
        decoder = CodecDecoder(config.codec.decoder)
    heard = torch.zeros(LONGEST_REFERENCE_S * encoder.sample_rate_hz, device="meta")
    frames = len(heard) // encoder.samples_per_frame
    codes = torch.zeros(frames, encoder.groups, dtype=torch.int64, device="meta")
    works = (lambda: speaker(heard), lambda: encoder.encode(heard), lambda: decoder.prime(codes))
    most = heard.nbytes + max(most_live_bytes(work) for work in works)
    assert most <= CLONE_WORK_BYTES <= 1.15 * most


def test_the_page_says_what_is_set_aside(tmp_path: Path) -> None:
    page = " ".join(PAGE.read_text("utf-8").split())
    needs = planned_of("0.6B", Precision.INT8, tmp_path)
    kept = KEPT_PROMPTS_BYTES + KEPT_VOICES_BYTES
    parts = (
        f"{megabytes(WORK_BYTES)} MB for",
        f"{megabytes(LIBRARIES_BYTES)} MB of it is assumed",
        f"{megabytes(kept)} MB for",
        f"{megabytes(WORK_ROW_BYTES)} MB for each call",
        f"four calls {megabytes(needs.total(4))} MB, with sixteen {megabytes(needs.total(16))} MB",
    )
    assert all(part in page for part in parts)
    more = [
        planned_of(size, Precision.INT8, tmp_path, "Base").total(1)
        - planned_of(size, Precision.INT8, tmp_path).total(1)
        for size in SIZES
    ]
    small, large = map(megabytes, more)
    assert f"A `Base` model sets aside {small} MB more (1.7B: {large} MB)" in page


def test_the_page_says_so(tmp_path: Path) -> None:
    """Rows of both tables of docs/cards.md, as they follow from the configurations."""
    page = PAGE.read_text("utf-8")
    for size in SIZES:
        for precision, word in ((Precision.INT8, "int8"), (Precision.NONE, "bf16")):
            found = sum_of(size, precision, tmp_path)
            parts = (found.weights, found.codec, found.call, found.total)
            assert " | ".join([f"| {size} {word}", *map(megabytes, parts)]) + " |" in page
            floor_ms = found.frame / CARD_GB_S / 1e6
            row = f"| {size} {word} | {found.frame / 1e9:.2f} GB | {floor_ms:.1f} | "
            assert row + f"{80 / floor_ms:.1f} |" in page


def megabytes(size_bytes: int) -> str:
    return f"{round(size_bytes / MB):,}"
