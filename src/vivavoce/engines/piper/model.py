"""One loaded voice: its three graphs behind typed functions."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vivavoce.engines.piper.cut_voice import CutFiles, Margins, cut_files, left_over, trim_feed
from vivavoce.engines.piper.options import PiperOptions, Scales
from vivavoce.engines.piper.voice_files import VoiceConfig, VoiceFiles, read_config
from vivavoce.errors import ModelFileError
from vivavoce.runtime.derived_files import cache_root, file_sha256
from vivavoce.runtime.onnx import open_session
from vivavoce.types import Samples

Array: TypeAlias = NDArray[np.float32]
NO_MARGINS = Margins(0, 0)


@dataclass(frozen=True, slots=True)
class Encoded:
    """What the text encoder says per phoneme number (n of them).

    ``durations`` (n,) in frames; ``mean`` and ``log_std`` (c, n) of the latent's distribution.
    """

    durations: NDArray[np.int64]
    mean: Array
    log_std: Array


class VoiceModel:
    """A voice in memory; safe to call from several threads at once."""

    def __init__(self, files: VoiceFiles, config: VoiceConfig, cut: CutFiles, sessions: Any):
        self.files = files
        self.sha256 = cut.model_sha256
        self.config = config
        self.hop_samples = cut.hop_samples
        self.decoder_radius_frames = cut.decoder_radius_frames
        self.flow_radius_frames = cut.flow_radius_frames
        self._inputs = cut.inputs
        self._trims = cut.trims
        self._sessions = sessions

    def encode(self, ids: list[int], scales: Scales, speaker: int | None, noise: Array) -> Encoded:
        """Phoneme numbers to durations and distributions; ``noise`` is (2, n), standard normal."""
        feed = {
            "input": np.array([ids], np.int64),
            "input_lengths": np.array([len(ids)], np.int64),
            "scales": np.array([scales.noise, scales.length, scales.noise_w], np.float32),
            "duration_noise": noise[None],
        }
        durations, mean, log_std = self._run("encoder", feed, speaker)
        return Encoded(durations.reshape(-1).astype(np.int64), mean[0], log_std[0])

    def flow(self, prior: Array, speaker: int | None, margins: Margins = NO_MARGINS) -> Array:
        """Draws from the distributions (c, t) to the decoder's input, without the margins."""
        latent: Array = self._run_trimmed("flow", "prior", prior, speaker, margins)
        rest = left_over(self._trims["flow"], margins, 1)
        return latent[0, :, rest.left : latent.shape[-1] - rest.right]

    def decode(self, latent: Array, speaker: int | None, margins: Margins = NO_MARGINS) -> Samples:
        """Decoder input (c, t) to sound, ``hop_samples`` a frame, without the margins."""
        sound = self._run_trimmed("decoder", "latent", latent, speaker, margins).reshape(-1)
        rest = left_over(self._trims["decoder"], margins, self.hop_samples)
        return sound[rest.left : len(sound) - rest.right]

    def _run_trimmed(
        self, part: str, name: str, frames: Array, speaker: int | None, margins: Margins
    ) -> Array:
        feed = {name: np.ascontiguousarray(frames)[None], **trim_feed(self._trims[part], margins)}
        result: Array = self._run(part, feed, speaker)[0]
        return result

    def _run(self, part: str, feed: dict[str, Any], speaker: int | None) -> Any:
        wanted = self._inputs[part]
        if "sid" in wanted:
            feed["sid"] = np.array([speaker or 0], np.int64)
        return self._sessions[part].run(None, {name: feed[name] for name in wanted})


def load_model(files: VoiceFiles, options: PiperOptions) -> VoiceModel:
    """Check, cut where needed, and open a voice. Raises ModelFileError, SettingsError."""
    config = read_config(files.config)
    config.require_known_phonemes(files.model)
    sha256 = file_sha256(files.model)
    if files.sha256 and sha256 != files.sha256:
        raise ModelFileError(
            f"The voice file {files.model} is damaged: its sha256 is {sha256}, "
            f"expected {files.sha256}."
        )
    with cut_files(files.model, sha256, cache_root(options.cache_dir)) as cut:
        sessions = {
            part: open_session(cut.path(part), options.device, options.threads)
            for part in cut.inputs
        }
    return VoiceModel(files, config, cut, sessions)


def elapsed_ms(since_s: float) -> float:
    """Milliseconds since a reading of ``time.perf_counter``."""
    return (time.perf_counter() - since_s) * 1000
