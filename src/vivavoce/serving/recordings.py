"""Recordings that callers upload: who may send one, and what is known before it is decoded.

Decoding waits for a slot of the engine, as everything does that costs something; until then a
recording stays where the form has it, which for a large one is a file.
"""

from __future__ import annotations

from functools import partial

from starlette.datastructures import FormData, UploadFile

from vivavoce.errors import ConsentRequired, InputError, Unsupported
from vivavoce.serving.context import ServerContext
from vivavoce.text import is_speakable
from vivavoce.types import Recording


def check_cloning(context: ServerContext) -> None:
    """Raise Unsupported where the engine cannot clone, before an upload is read."""
    info = context.service.engine.info
    if not info.capabilities.cloning:
        raise Unsupported(f"The engine {info.name!r} cannot clone voices.", param="file")


def check_consent(context: ServerContext, consent: str | None) -> None:
    """Raise ConsentRequired where the settings ask for a consent and none was sent."""
    if context.settings.require_consent and not (consent or "").strip():
        raise ConsentRequired(
            "This server clones nobody without consent: send the field consent, which says how the"
            " speaker agreed.",
            param="consent",
        )


def uploaded_recording(form: FormData, transcript: str | None, *names: str) -> Recording:
    """The file sent under the first of ``names`` that is there, for as long as the form is open.

    Raises InputError where there is none, and for a transcript without words.
    """
    if transcript is not None and not is_speakable(transcript):
        raise InputError("ref_text is empty; leave it out if it is not known.", param="ref_text")
    for name in names:
        file = form.get(name)
        if isinstance(file, UploadFile):
            return Recording(partial(_read, file), transcript, name)
    raise InputError(f"{names[0]}: a file is required.", param=names[0])


async def _read(file: UploadFile) -> bytes:
    await file.seek(0)
    return await file.read()
