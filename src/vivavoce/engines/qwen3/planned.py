"""What a model takes in memory, known before any of it is read."""

from __future__ import annotations

import torch

from vivavoce.engines.capture.statics import tensors_in
from vivavoce.engines.kernels.chooser import Path, chosen
from vivavoce.engines.qwen3.budget import Footprint
from vivavoce.engines.qwen3.codec.decoder import CodecDecoder
from vivavoce.engines.qwen3.config import Qwen3Config, TalkerConfig
from vivavoce.engines.qwen3.device import Place
from vivavoce.engines.qwen3.quantising import Quantising, weights_bytes
from vivavoce.engines.qwen3.rows import RowState
from vivavoce.engines.qwen3.talker import Talker


def planned_footprint(config: Qwen3Config, place: Place, positions: int) -> Footprint:
    """Of a model on a GPU; ``batch.footprint`` says the same of one that is loaded."""
    with torch.device("meta"):
        talker, codec = Talker(config.talker), CodecDecoder(config.codec.decoder)
    quantising = Quantising(place.precision, place.dtype, place.device)
    like = talker.codec_head.weight.to(place.dtype)
    one, two = (
        state_bytes(RowState.build(config.talker, rows, positions, like)) for rows in (1, 2)
    )
    weights = weights_bytes(talker, quantising) + tables_bytes(config.talker, place)
    weights += sum(each.nbytes for each in (*codec.parameters(), *codec.buffers()))
    return Footprint(weights, two - one + codec.row_bytes())


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
