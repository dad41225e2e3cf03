"""Where ``vivavoce say`` sends the sound."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vivavoce.errors import InputError

if TYPE_CHECKING:
    from vivavoce.cli.sinks import Sink


@dataclass(frozen=True, slots=True)
class Target:
    """Where the sound goes: a file name, ``-`` for standard output, None for the loudspeaker."""

    output: str | None
    encoding: str | None
    sample_rate_hz: int | None

    def __post_init__(self) -> None:
        if self.output is None and (self.encoding or self.sample_rate_hz):
            raise InputError("--format and --sample-rate are for files: name one with -o.")

    def check(self) -> None:
        """Raise InputError or PlaybackError before any time is spent on loading."""
        from vivavoce.cli.sinks import encoding_for

        if self.output is not None:
            encoding_for(self.output, self.encoding)

    def open(self, engine_hz: int) -> AbstractContextManager[Sink]:
        """The sink for sound at the engine's rate."""
        from vivavoce.cli.sinks import file_sink, playback_sink

        if self.output is None:
            return playback_sink(engine_hz)
        return file_sink(self.output, self.encoding, (engine_hz, self.sample_rate_hz))
