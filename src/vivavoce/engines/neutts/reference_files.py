"""Reference codes in files: ``.npy``, JSON, and ``.pt`` as ``torch.save`` writes a tensor."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vivavoce.engines.neutts.backbone import SPEECH_CODES, Codes
from vivavoce.errors import ModelFileError

KINDS = (".npy", ".json", ".pt")


@dataclass(frozen=True, slots=True)
class FoundReference:
    """A voice found in a folder: codes (T,) int32 and what was said."""

    name: str
    codes: Codes
    transcript: str
    language: str = ""


def references_in(folder: Path) -> Iterator[FoundReference]:
    """Every NAME.npy, NAME.json or NAME.pt with its NAME.txt, by name.

    A JSON file may hold ``{"codes": [...], "transcript": "...", "language": "en"}`` and then needs
    no NAME.txt. Raises ModelFileError for a folder or file that cannot be read.
    """
    try:
        files = [path for path in folder.iterdir() if path.suffix in KINDS]
    except OSError as error:
        raise ModelFileError(f"{folder} cannot be read: {error.strerror}.") from error
    best: dict[str, Path] = {}
    for path in sorted(files, key=lambda path: KINDS.index(path.suffix)):
        best.setdefault(path.stem, path)
    for name in sorted(best):
        yield read_reference(best[name])


def read_reference(path: Path) -> FoundReference:
    """One voice. Raises ModelFileError for codes or a transcript that are missing or damaged."""
    try:
        return _json(path) if path.suffix == ".json" else _array(path)
    except OSError as error:
        raise ModelFileError(f"{error.filename} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path} holds no reference codes: {error}") from error


def checked_codes(values: Any, where: object) -> Codes:
    """Codes (T,) int32 of any list or array of whole numbers. Raises ModelFileError."""
    codes = np.asarray(values).squeeze()
    whole = codes.ndim == 1 and len(codes) > 0 and np.issubdtype(codes.dtype, np.integer)
    if not whole or codes.min() < 0 or codes.max() >= SPEECH_CODES:
        raise ModelFileError(
            f"{where} holds no reference codes: a list of numbers from 0 to {SPEECH_CODES - 1}."
        )
    return codes.astype(np.int32)


def _array(path: Path) -> FoundReference:
    values = _torch_tensor(path) if path.suffix == ".pt" else np.load(path, allow_pickle=False)
    return FoundReference(path.stem, checked_codes(values, path), _transcript(path))


def _torch_tensor(path: Path) -> Any:
    """A single tensor saved by itself."""
    from vivavoce.runtime.torch_zip import TorchZip

    file = TorchZip.open(path)
    return file.read(next(iter(file.tensors))).astype(np.int64)


def _json(path: Path) -> FoundReference:
    told = json.loads(path.read_text("utf-8"))
    if isinstance(told, list):
        return FoundReference(path.stem, checked_codes(told, path), _transcript(path))
    text = str(told["transcript"]).strip() if "transcript" in told else _transcript(path)
    codes = checked_codes(told["codes"], path)
    return FoundReference(path.stem, codes, text, str(told.get("language", "")))


def _transcript(path: Path) -> str:
    said = path.with_suffix(".txt").read_text("utf-8").strip()
    if not said:
        raise ModelFileError(f"{path.with_suffix('.txt')} is empty: it must hold what was said.")
    return said
