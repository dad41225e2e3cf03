"""A voice as it was cut: its three graphs on disk, and the context that each lets go.

A window is computed with context on both sides, as wide as the whole graph looks. What follows
a tensor in the middle looks less far, so most of the context can be cut off there: in a decoder
the expensive last stages need a fraction of a frame. The values that stay are the same, up to the
order of sums. The graphs are made once and checked at every load.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivavoce.errors import ModelFileError
from vivavoce.runtime.derived_files import derived_folder, file_sha256

log = logging.getLogger(__name__)

TO_THE_END = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Trim:
    """A place to cut: ``need`` steps of context stay on each side; a frame has ``factor`` steps."""

    factor: int
    need: int


@dataclass(frozen=True, slots=True)
class Margins:
    """Context on the two sides of what is wanted, in frames."""

    left: int
    right: int


def trim_feed(trims: Sequence[Trim], margins: Margins) -> dict[str, NDArray[np.int64]]:
    """What a graph with these cuts has to be given for a window with these margins."""
    feed: dict[str, NDArray[np.int64]] = {}
    left, right, factor = margins.left, margins.right, 1
    for number, trim in enumerate(trims):
        left, right = left * trim.factor // factor, right * trim.factor // factor
        off_left, off_right = max(0, left - trim.need), max(0, right - trim.need)
        feed[f"trim_start_{number}"] = np.array([off_left], np.int64)
        feed[f"trim_end_{number}"] = np.array([-off_right or TO_THE_END], np.int64)
        left, right, factor = left - off_left, right - off_right, trim.factor
    return feed


def left_over(trims: Sequence[Trim], margins: Margins, factor: int) -> Margins:
    """The context that is still around the output, in its steps, ``factor`` a frame."""
    left, right, fine = margins.left, margins.right, 1
    for trim in trims:
        left = min(left * trim.factor // fine, trim.need)
        right = min(right * trim.factor // fine, trim.need)
        fine = trim.factor
    return Margins(left * factor // fine, right * factor // fine)


def trims_from(facts: Sequence[Mapping[str, int]]) -> tuple[Trim, ...]:
    """Read what was kept beside the graphs. Raises KeyError, TypeError."""
    return tuple(Trim(int(fact["factor"]), int(fact["need"])) for fact in facts)


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
    with derived_folder(
        "The cut voice",
        [kept],
        lambda folder: read_cut(folder, sha256),
        lambda folder: _cut_into(model, folder),
    ) as found:
        yield found


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


def _cut_into(model: Path, folder: Path) -> None:
    """Cut in another process. Raises OSError where the folder cannot be written."""
    command = [sys.executable, "-m", "vivavoce.engines.piper.cut_worker", str(model), str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ModelFileError(f"Cutting {model} took longer than {TIMEOUT_S:.0f} s.") from error
    if done.returncode == 0:
        return
    reason = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
    if "OSError" in reason[0] or "Error: [Errno" in reason[0]:
        raise OSError(reason[0])
    raise ModelFileError(f"The voice {model} cannot be cut: {reason[0]}")
