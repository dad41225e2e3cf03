"""The cut graphs of a voice on disk: made once, checked at every load, remade when damaged."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vivavoce.engines.piper.trimming import Trim, trims_from
from vivavoce.errors import ModelFileError
from vivavoce.runtime.derived_files import file_sha256

log = logging.getLogger(__name__)

CUT_VERSION = 3
"""Raised whenever the cut files change in form."""
PARTS = ("encoder", "flow", "decoder")
TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class CutFiles:
    """The three graphs and what is known of them; radii are in frames of ``hop_samples``."""

    folder: Path
    model_sha256: str
    hop_samples: int
    decoder_radius_frames: int
    flow_radius_frames: int
    inputs: Mapping[str, tuple[str, ...]]
    trims: Mapping[str, tuple[Trim, ...]]

    def path(self, part: str) -> Path:
        """The file of one of ``PARTS``."""
        return self.folder / f"{part}.onnx"


@contextmanager
def cut_files(model: Path, sha256: str, root: Path) -> Iterator[CutFiles]:
    """The cut graphs of a model, from the cache where possible; they may be gone afterwards.

    A cache that cannot be written is worked around with a temporary folder and a warning.
    Raises ModelFileError where the model is not a Piper voice.
    """
    kept = root / "piper" / f"{sha256}-v{CUT_VERSION}"
    found = read_cut(kept, sha256)
    if found is None:
        try:
            found = _fill_cache(model, kept, sha256)
        except OSError as error:
            log.warning("The cut voice cannot be kept in %s: %s", kept, error)
    if found is not None:
        yield found
        return
    with tempfile.TemporaryDirectory(prefix="vivavoce-") as temporary:
        yield _cut_into(model, Path(temporary), sha256)


def read_cut(folder: Path, sha256: str) -> CutFiles | None:
    """What is in a folder, or None where something is missing or damaged."""
    try:
        facts = json.loads((folder / "cut.json").read_text(encoding="utf-8"))
        if facts.pop("digest") != facts_digest(facts):
            raise ValueError("its numbers are not those that were written")
        files = CutFiles(
            folder,
            sha256,
            int(facts["hop_samples"]),
            int(facts["decoder_radius_frames"]),
            int(facts["flow_radius_frames"]),
            {part: tuple(facts["inputs"][part]) for part in PARTS},
            {part: trims_from(facts["trims"][part]) for part in PARTS},
        )
        sound = all(file_sha256(files.path(part)) == facts["sha256"][part] for part in PARTS)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, ModelFileError) as error:
        log.warning("The cut voice in %s is unreadable and made anew: %r", folder, error)
        return None
    if not sound:
        log.warning("The cut voice in %s is damaged and made anew.", folder)
    return files if sound else None


def facts_digest(facts: Mapping[str, Any]) -> str:
    """A SHA-256, in hex, over all that cut.json says but this."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _fill_cache(model: Path, kept: Path, sha256: str) -> CutFiles | None:
    """Cut beside the final place, then rename. Raises OSError, ModelFileError."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".cutting-") as temporary:
        made = Path(temporary) / "cut"
        made.mkdir()
        _cut_into(model, made, sha256)
        if read_cut(kept, sha256) is None:
            shutil.rmtree(kept, ignore_errors=True)
            made.rename(kept)
    return read_cut(kept, sha256)


def _cut_into(model: Path, folder: Path, sha256: str) -> CutFiles:
    """Cut in another process. Raises OSError where the folder cannot be written."""
    command = [sys.executable, "-m", "vivavoce.engines.piper.cut_worker", str(model), str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ModelFileError(f"Cutting {model} took longer than {TIMEOUT_S:.0f} s.") from error
    if done.returncode == 0 and (files := read_cut(folder, sha256)) is not None:
        return files
    reason = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
    if "OSError" in reason[0] or "Error: [Errno" in reason[0]:
        raise OSError(reason[0])
    raise ModelFileError(f"The voice {model} cannot be cut: {reason[0]}")
