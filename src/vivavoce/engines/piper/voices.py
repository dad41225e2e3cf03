"""The voices an engine offers: known by their files, loaded when first spoken with."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

from vivavoce.engines.piper.model import VoiceModel, load_model
from vivavoce.engines.piper.options import PiperOptions
from vivavoce.engines.piper.voice_files import (
    VoiceConfig,
    VoiceFiles,
    download_voice,
    packaged_voice,
    read_config,
    voice_at,
)
from vivavoce.errors import MissingExtra, ModelFileError, SettingsError, UnknownVoice
from vivavoce.runtime.derived_files import cache_root
from vivavoce.types import Voice


class VoiceShelf:
    """Voices by id. A voice with several speakers has one id for each: ``name#speaker``.

    At most ``options.loaded_voices`` models stay in memory, the least recently used goes first;
    an utterance that is being spoken keeps its own until it ends. Safe to use from any thread.
    """

    def __init__(self, options: PiperOptions) -> None:
        self._options = options
        self._files: Mapping[str, VoiceFiles] = {}
        self._configs: dict[str, VoiceConfig] = {}
        self._listed: tuple[Voice, ...] = ()
        self._models: OrderedDict[str, VoiceModel] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, *, may_download: bool = True) -> None:
        """Look for voices, downloading the default one where that is allowed. Raises SetupError."""
        options = self._options
        name = options.voice.partition("#")[0]
        if not name and options.model is None and packaged_voice() is None:
            raise MissingExtra("The default Piper voice", "piper")
        try:
            files = find_voices(options)
        except SettingsError:
            if not (options.download and name):
                raise
            if not may_download:
                raise ModelFileError(
                    f"The Piper voice {name!r} is not on this machine; it is downloaded by a "
                    "start with preload_model=true."
                ) from None
            download_voice(name, download_folder(options), options.download_repo)
            files = find_voices(options)
        self._configs = {each: read_config(files[each].config) for each in files}
        default = next(iter(files))
        self._configs[default].require_known_phonemes(files[default].model)
        self._files = files
        self._listed = tuple(
            voice for each in files for voice in _listed(each, self._configs[each], options.voice)
        )
        if "#" in options.voice and self._listed[0].id != options.voice:
            raise SettingsError(f"There is no voice {options.voice!r}.", param="voice")

    def listed(self) -> tuple[Voice, ...]:
        """Every voice, the default one first."""
        return self._listed

    def aliases(self) -> Mapping[str, str]:
        """A voice of many speakers by its name alone: its first listed speaker."""
        found: dict[str, str] = {}
        for voice in self._listed:
            name, _, speaker = voice.id.partition("#")
            if speaker:
                found.setdefault(name, voice.id)
        return found

    def speaker(self, voice_id: str) -> tuple[str, int | None]:
        """The voice's name and speaker number. Raises UnknownVoice.

        A name alone means its default speaker.
        """
        name, _, speaker = voice_id.partition("#")
        config = self._configs.get(name)
        if config is None or (speaker and speaker not in config.speakers):
            raise UnknownVoice(voice_id, [voice.id for voice in self._listed])
        return name, config.speakers[speaker] if speaker else config.default_speaker

    def config(self, name: str) -> VoiceConfig:
        """A known voice's configuration."""
        return self._configs[name]

    def model(self, name: str) -> VoiceModel:
        """A known voice's model, loaded where it is not. Raises ModelFileError, SettingsError."""
        with self._lock:
            model = self._models.pop(name, None) or load_model(self._files[name], self._options)
            self._models[name] = model
            while len(self._models) > self._options.loaded_voices:
                self._models.popitem(last=False)
            return model

    def loaded(self) -> list[str]:
        """Names of the voices in memory, the least recently used first."""
        return list(self._models)

    def forget(self) -> None:
        """Drop all models."""
        self._models.clear()


def download_folder(options: PiperOptions) -> Path:
    """Where downloaded voices go: the voices folder, or one in the cache."""
    return options.voices_dir or cache_root(options.cache_dir) / "piper" / "voices"


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


def _listed(name: str, config: VoiceConfig, default_id: str) -> list[Voice]:
    speakers = sorted(config.speakers, key=lambda each: config.speakers[each])
    ids = [f"{name}#{speaker}" for speaker in speakers] or [name]
    first = default_id if default_id in ids else f"{name}#{_default_speaker(config)}"
    ids.sort(key=lambda each: each != first)
    return [Voice(id=each, engine="piper", name=each, languages=(config.language,)) for each in ids]


def _default_speaker(config: VoiceConfig) -> str:
    by_number = {number: speaker for speaker, number in config.speakers.items()}
    return by_number.get(config.default_speaker or 0, "")
