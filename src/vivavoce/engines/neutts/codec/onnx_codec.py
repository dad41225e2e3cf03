"""The decoder on ONNX Runtime: our own graph of a checkpoint, or a graph as it was published."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vivavoce.engines.neutts.codec.network import checked_codes
from vivavoce.engines.neutts.codec.stream import HOP, Codes
from vivavoce.errors import EngineError, MissingExtra, ModelFileError
from vivavoce.runtime.nvidia import only_gpu
from vivavoce.runtime.onnx import OnnxDevice, open_session, require_device
from vivavoce.types import Gpu, Samples, WeightsFormat

if TYPE_CHECKING:
    from vivavoce.engines.neutts.codec.onnx_graph import Precision

GRAPH_INPUT = "codes"
PROBE_CODES = 2


class OnnxCodec:
    """A session of its own. ``decode`` may run beside other threads' work: it holds no lock."""

    windows: tuple[int, ...] = ()

    def __init__(self, session: Any, device: str, precision: str) -> None:
        self._session = session
        self.device = device
        self.details = {"runtime": "onnxruntime", "precision": precision}

    @property
    def gpu(self) -> Gpu | None:
        """What the driver says of the card, where there is one alone; ONNX Runtime does not tell
        how much of it is its own."""
        return None if self.device == "cpu" else only_gpu()

    @property
    def weights(self) -> WeightsFormat:
        """How they are stored."""
        precision = self.details["precision"]
        return WeightsFormat(precision, f"for ONNX Runtime on {self.device}")

    def decode(self, codes: Codes) -> Samples:
        """(T,) to (T * 480,) float32. Raises InputError for wrong codes, EngineError."""
        codes = checked_codes(codes)
        try:
            sound = self._session.run(None, {GRAPH_INPUT: codes[None, None]})[0]
        except Exception as error:
            raise EngineError(f"The codec failed on {len(codes)} codes.") from error
        samples = np.asarray(sound, np.float32).reshape(-1)
        if len(samples) != len(codes) * HOP:
            raise EngineError(f"The codec made {len(samples)} samples of {len(codes)} codes.")
        return samples

    def close(self) -> None:
        """Give back the memory."""
        self._session = None


def open_onnx_codec(
    path: Path | str,
    *,
    precision: Precision = "int8",
    device: OnnxDevice = "cpu",
    threads: int = 1,
    cache: Path | None = None,
) -> OnnxCodec:
    """Load a decoder and try it.

    ``path`` is a checkpoint (``pytorch_model.bin``, safetensors, or a folder with one of them) that
    is written as a graph in ``precision`` once and kept beside it or in ``cache``; or a graph
    (``.onnx``, or a folder with ``model.onnx``) as Neuphonic publishes it, used as it is. torch is
    not needed. Raises ModelFileError, SettingsError for a device that is not there, MissingExtra.
    """
    path = Path(path)
    try:
        require_device(device, "codec_device")
    except ImportError as error:
        raise MissingExtra("The NeuCodec decoder", "neutts") from error
    with _graph(path, precision, cache) as (graph, told):
        session = open_session(graph, device, threads, "codec_device")
    codec = OnnxCodec(session, "cuda:0" if device == "cuda" else "cpu", told)
    _try_out(codec, session, path)
    return codec


@contextmanager
def _graph(path: Path, precision: Precision, cache: Path | None) -> Iterator[tuple[Path, str]]:
    """The graph's file and its precision."""
    published = path / "model.onnx" if path.is_dir() else path
    if published.suffix == ".onnx" and published.is_file():
        yield published, "as published"
        return
    try:
        from vivavoce.engines.neutts.codec.network import open_decoder
        from vivavoce.engines.neutts.codec.onnx_files import graph_file
    except ImportError as error:
        raise MissingExtra("Writing the codec's graph", "neutts") from error
    with graph_file(open_decoder(path), precision, cache) as graph:
        yield graph, precision


def _try_out(codec: OnnxCodec, session: Any, path: Path) -> None:
    """Refuse a graph that is no decoder of this codec."""
    inputs = [(each.name, each.type) for each in session.get_inputs()]
    if inputs != [(GRAPH_INPUT, "tensor(int32)")]:
        raise ModelFileError(f"{path} is not a NeuCodec decoder: its inputs are {inputs}.")
    try:
        codec.decode(np.zeros(PROBE_CODES, np.int32))
    except EngineError as error:
        raise ModelFileError(
            f"{path} is not a NeuCodec decoder: {error.__cause__ or error}"
        ) from error
