"""Encodes a reference recording in a process of its own, whose memory is given back."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from vivavoce.engines.neutts.codec.encoder.recording import prepare_recording
from vivavoce.engines.neutts.codec.network import checked_codes
from vivavoce.engines.neutts.codec.stream import Codes
from vivavoce.errors import EngineError, ModelFileError, SettingsError
from vivavoce.types import ReferenceAudio

TIMEOUT_S = 600.0
MODULE = "vivavoce.engines.neutts.codec.encoder.worker"
KINDS = {"ModelFileError": ModelFileError, "SettingsError": SettingsError}


def encode_reference(
    codec: Path | str,
    reference: ReferenceAudio,
    *,
    semantic: Path | str | None = None,
    device: str = "cpu",
    threads: int = 0,
) -> Codes:
    """The codes (T,) of a recording, 50 a second; takes seconds (and the model's loading).

    ``codec`` is a checkpoint of ``neucodec`` or ``distill-neucodec``, ``semantic`` that of the
    semantic model where the first does not hold it. ``threads`` of 0 leaves torch its choice.
    Raises InvalidAudio, ModelFileError, SettingsError for a device that is not there, EngineError.
    """
    samples = prepare_recording(reference.samples, reference.sample_rate_hz)
    with tempfile.TemporaryDirectory(prefix="vivavoce-") as temporary:
        given, made = Path(temporary) / "samples.npy", Path(temporary) / "codes.npy"
        np.save(given, samples, allow_pickle=False)
        _run([str(given), str(made), device, str(threads), str(codec), str(semantic or "")])
        return checked_codes(np.load(made, allow_pickle=False))


def _run(arguments: list[str]) -> None:
    """Run the worker. Its last line of errors names their kind."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            [sys.executable, "-m", MODULE, *arguments],
            capture_output=True, text=True, timeout=TIMEOUT_S, env=environment, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"Encoding the recording took over {TIMEOUT_S:.0f} s.") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        kind, _, message = last.partition(": ")
        raise KINDS.get(kind.rpartition(".")[2], EngineError)(message or last)
