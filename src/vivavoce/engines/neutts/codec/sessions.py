"""ONNX Runtime sessions of the codec: their threads, and where they really run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeAlias

from vivavoce.errors import MissingExtra, ModelFileError, SettingsError
from vivavoce.runtime.onnx import onnx_runtime

OnnxDevice: TypeAlias = Literal["cpu", "cuda"]
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def open_session(path: Path, device: OnnxDevice, threads: int) -> Any:
    """Open a graph. Raises ModelFileError, MissingExtra, and SettingsError where the device is not
    there: nothing falls back."""
    try:
        ort = onnx_runtime()
    except ImportError as error:
        raise MissingExtra("The NeuCodec decoder", "neutts") from error

    provider = PROVIDERS[device]
    if provider not in ort.get_available_providers():
        raise SettingsError(
            "codec_device='cuda' needs ONNX Runtime's CUDA provider (pip install onnxruntime-gpu) "
            "or PyTorch with the codec's checkpoint.",
            param="codec_device",
        )
    try:
        session = ort.InferenceSession(str(path), _options(ort, threads), providers=[provider])
    except Exception as error:
        raise ModelFileError(f"ONNX Runtime cannot load {path}: {error}") from error
    if session.get_providers()[0] != provider:
        raise SettingsError("ONNX Runtime's CUDA provider did not start.", param="codec_device")
    return session


def _options(ort: Any, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Lengths differ from call to call: remembered layouts would only cost memory.
    options.enable_mem_pattern = False
    # Threads that wait by spinning would take the cores the backbone runs on.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
