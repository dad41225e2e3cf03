"""From settings to a loaded engine, for the commands that speak."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vivavoce.settings import Settings
    from vivavoce.speech.synthesizer import Synthesizer
    from vivavoce.text import Lexicon

NO_LIMIT_S = 365 * 86_400.0
"""At a terminal nobody else waits: a book may take as long as it takes."""


def lexicon_of(settings: Settings, file: Path | None = None) -> Lexicon:
    """The lexicon of the settings with a file's entries before it. Raises SettingsError."""
    from vivavoce.text import Lexicon

    own = Lexicon() if settings.lexicon is None else Lexicon.load(settings.lexicon)
    return own if file is None else own.merged(Lexicon.load(file))


def open_synthesizer(
    settings: Settings,
    lexicon_file: Path | None = None,
    *,
    max_chars: int | None = None,
    mention_recordings: bool = True,
) -> Synthesizer:
    """Load the engine the settings name; close it after use. Raises SetupError, EngineError.

    ``max_chars`` raises the settings' limit of characters to the text at hand. Recordings in the
    folders of voices are mentioned in the log unless ``mention_recordings`` is False.
    """
    from vivavoce.engines.registry import create_engine
    from vivavoce.speech.service import ServiceOptions, SpeechService
    from vivavoce.speech.stream import StreamLimits
    from vivavoce.speech.synthesizer import Synthesizer
    from vivavoce.speech.voice_folder import recordings_folders

    folders = recordings_folders(settings.data_dir, settings.engine_options)
    options = ServiceOptions(
        max_input_chars=max(max_chars or 0, settings.max_input_chars),
        cache_entries=0,
        voices_folder=settings.data_dir / "voices",
        recordings_folders=folders if mention_recordings else (),
        max_saved_voices=settings.max_saved_voices,
        normalize=settings.text_normalize,
        lexicon=lexicon_of(settings, lexicon_file),
        limits=StreamLimits(NO_LIMIT_S, NO_LIMIT_S),
    )
    engine = create_engine(settings.engine, settings.engine_options, settings.shared_options)
    return Synthesizer(SpeechService(engine, options))
