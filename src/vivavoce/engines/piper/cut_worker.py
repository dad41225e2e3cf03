"""Cuts one voice and exits; run as a process of its own, so that its memory is given back.

Usage: ``python -m vivavoce.engines.piper.cut_worker MODEL.onnx FOLDER``. Exit status 3 means that
the model is not a Piper voice; the reason is on stderr.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from vivavoce.engines.piper.cut_cache import facts_digest
from vivavoce.engines.piper.decoder_graph import to_two_dimensions
from vivavoce.engines.piper.graph_cut import cut
from vivavoce.engines.piper.reach import reach
from vivavoce.engines.piper.trim_graph import trim_where_narrow
from vivavoce.errors import ModelFileError

NOT_A_VOICE = 3


def write_cut(model_path: Path, folder: Path) -> None:
    """Write encoder.onnx, flow.onnx, decoder.onnx and cut.json. Raises ModelFileError, OSError."""
    try:
        model = onnx.load(str(model_path))
    except DecodeError as error:
        raise ModelFileError(f"{model_path} is not an ONNX file: {error}") from error
    encoder, flow, decoder = cut(model)
    decoder_reach, flow_reach = reach(decoder, "latent"), reach(flow, "prior")
    trims = {
        "encoder": (),
        "flow": trim_where_narrow(flow, "prior"),
        "decoder": trim_where_narrow(decoder, "latent"),
    }
    to_two_dimensions(decoder)
    parts = {"encoder": encoder, "flow": flow, "decoder": decoder}
    facts = {
        "hop_samples": decoder_reach.factor,
        "decoder_radius_frames": decoder_reach.frames,
        "flow_radius_frames": flow_reach.frames,
        "inputs": {name: [each.name for each in part.graph.input] for name, part in parts.items()},
        "trims": {name: [asdict(trim) for trim in made] for name, made in trims.items()},
        "sha256": {name: _write(part, folder / f"{name}.onnx") for name, part in parts.items()},
    }
    signed = facts | {"digest": facts_digest(facts)}
    (folder / "cut.json").write_text(json.dumps(signed), encoding="utf-8")


def _write(model: Any, path: Path) -> str:
    data = model.SerializeToString()
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def main() -> int:
    """Run with the command line's two paths."""
    try:
        write_cut(Path(sys.argv[1]), Path(sys.argv[2]))
    except ModelFileError as error:
        sys.stderr.write(str(error))
        return NOT_A_VOICE
    return 0


if __name__ == "__main__":
    sys.exit(main())
