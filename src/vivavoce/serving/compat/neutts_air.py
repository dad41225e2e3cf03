"""The desktop server for NeuTTS Air (``tts_server.py``, port 5555): one POST that plays and writes.

It looked at no path, and spoke as its own voice where it did not know the one asked for.
"""

from __future__ import annotations

from types import MappingProxyType

from vivavoce.serving.compat.old_server import Fields, OldServer, Voices, given

DEFAULT_VOICE = "scarlett"
OURS = ("/v1/", "/cache/")
"""Where our own paths that are posted to begin."""


def root_of(method: str, path: str) -> str:
    """Whatever is posted is for its one endpoint, but for what is ours."""
    return "/" if method == "POST" and not path.startswith(OURS) else path


def text_fields(fields: Fields, voices: Voices) -> Fields:
    """Text, voice and output; the default voice for one that is not there."""
    fields = given(fields)
    name = fields.get("voice")
    if name is None or isinstance(name, str):
        own = voices.chosen or voices.known(DEFAULT_VOICE)
        fields["voice"] = (voices.known(name) if name else None) or own
    return fields


SERVER = OldServer(fields=MappingProxyType({"/": text_fields}), path=root_of)
