"""What the engine says of itself, and where its model is, before and after it is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vivavoce.engines.base import Capabilities, TextLiking
from vivavoce.engines.qwen3.config import Qwen3Config
from vivavoce.engines.qwen3.options import Qwen3Options, models_root, takes_instructions
from vivavoce.errors import ModelFileError

if TYPE_CHECKING:
    from vivavoce.engines.qwen3.batch import Batch
    from vivavoce.engines.qwen3.model import Model

MIB = 1024 * 1024

FRAME_RATE_HZ = 12.5
"""Codec frames a second, in every published model."""

LIKING = TextLiking(group_s=20.0)
"""A sentence by itself has no voice and no pace from the one before it."""


def capabilities(config: Qwen3Config | None) -> Capabilities:
    """What a checkpoint can do; None: what all can."""
    return Capabilities(
        cloning=config is not None and config.kind == "base",
        incremental_text=True,
        seed=True,
        sampling=True,
        instructions=config is not None and takes_instructions(config),
    )


def config_at_hand(options: Qwen3Options) -> Qwen3Config | None:
    """What a local folder says, so that voices are known before it is loaded."""
    folder = Path(options.model)
    if not folder.is_dir():
        return None
    try:
        return Qwen3Config.load(folder)
    except ModelFileError:
        return None  # load will say what is wrong


def locate(options: Qwen3Options) -> Path:
    """The checkpoint's folder, downloaded where it is a name. Raises SetupError."""
    folder = Path(options.model).expanduser()
    if folder.is_dir():
        return folder
    from vivavoce.engines.qwen3.catalog import download_model

    return download_model(str(options.model), models_root(options))


def find_checkpoint(options: Qwen3Options) -> Path:
    """The checkpoint's folder where it is on this machine. Raises SetupError, and UnknownModel."""
    from vivavoce.engines.qwen3.catalog import find_model
    from vivavoce.engines.qwen3.checkpoint import FILES

    folder = find_model(Path(options.model).expanduser(), models_root(options))
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise ModelFileError(f"{folder} lacks {', '.join(missing)}.")
    return folder


def details_of(
    config: Qwen3Config | None,
    model: Model | None,
    batch: Batch | None,
    rows: int,
    positions: int,
) -> dict[str, Any]:
    """For ``EngineInfo.details``; without parts that are not loaded."""
    told: dict[str, Any] = {"loaded": model is not None, "frame_rate_hz": FRAME_RATE_HZ}
    if config is not None:
        told |= {"kind": config.kind, "size": config.size}
    if model is None or batch is None:
        return told
    return {
        **told,
        **model.place.details(),
        "attention": batch.attention(),
        "kernels": batch.kernels(),
        "torch_compile": batch.compiled,
        "rows": rows,
        "positions": positions,
        "weights_mb": model.weights_bytes() // MIB,
        "buffers_mb": batch.memory_bytes() // MIB,
    }
