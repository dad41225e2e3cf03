"""What a model takes in memory, known before any of it is read."""

from __future__ import annotations

import torch

from vivavoce.engines.qwen3.budget import Footprint
from vivavoce.engines.qwen3.codec.decoder import CodecDecoder
from vivavoce.engines.qwen3.codec.encoder import CodecEncoder
from vivavoce.engines.qwen3.config import Qwen3Config, TalkerConfig
from vivavoce.engines.qwen3.device import Place
from vivavoce.engines.qwen3.model import Model
from vivavoce.engines.qwen3.quantizing import Quantizing, weights_bytes
from vivavoce.engines.qwen3.rows import RowState
from vivavoce.engines.qwen3.speaker import SpeakerEncoder
from vivavoce.engines.qwen3.talker import Talker
from vivavoce.runtime.graphs.api import tensors_in
from vivavoce.runtime.kernels.dispatch import Path, chosen


def planned_footprint(config: Qwen3Config, place: Place, positions: int) -> Footprint:
    """Of a model on a GPU; ``footprint`` says the same of one that is loaded."""
    with torch.device("meta"):
        talker, codec = Talker(config.talker), CodecDecoder(config.codec.decoder)
    quantizing = Quantizing(place.precision, place.dtype, place.device)
    like = talker.codec_head.weight.to(place.dtype)
    row = _row_bytes(config.talker, positions, like) + codec.row_bytes()
    weights = weights_bytes(talker, quantizing) + tables_bytes(config.talker, place)
    return Footprint(weights + _module_bytes(codec), row, encoders_bytes(config))


def footprint(model: Model, positions: int) -> Footprint:
    """What a loaded model takes, and a row of a ``Batch`` of it."""
    config, like = model.config.talker, model.talker.codec_head.weight.to("meta")
    row = _row_bytes(config, positions, like) + model.codec.init_state(1).row_bytes
    weights = model.weights_bytes(encoders=False) + tables_bytes(config, model.place)
    return Footprint(weights, row, encoders_bytes(model.config))


def encoders_bytes(config: Qwen3Config) -> int:
    """Of what a voice is made with from a recording, in float32; 0 where none can be."""
    if config.speaker_encoder is None:
        return 0
    with torch.device("meta"):
        parts = CodecEncoder(config.codec), SpeakerEncoder(config.speaker_encoder)
    return sum(map(_module_bytes, parts))


def tables_bytes(config: TalkerConfig, place: Place) -> int:
    """Of the tables that kernels read instead of projecting each code (``fused``)."""
    small = config.code_predictor
    narrow = small.hidden_size == config.hidden_size
    if narrow or chosen(place.device, place.dtype).path is not Path.TRITON:
        return 0
    tables = (small.num_code_groups - 1) * small.vocab_size
    return tables * small.hidden_size * place.dtype.itemsize


def state_bytes(state: object) -> int:
    """Of all tensors in a dataclass."""
    return sum(tensor.nbytes for tensor in tensors_in(state))


def _row_bytes(config: TalkerConfig, positions: int, like: torch.Tensor) -> int:
    one, two = (state_bytes(RowState.build(config, rows, positions, like)) for rows in (1, 2))
    return two - one


def _module_bytes(part: torch.nn.Module) -> int:
    return sum(each.nbytes for each in (*part.parameters(), *part.buffers()))
