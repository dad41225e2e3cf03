"""The voices and languages of a checkpoint: built-in speakers, clones and what is kept of them.

Languages have the checkpoint's own names and ISO 639-1 codes. Nothing here needs PyTorch: a saved
voice is read without loading a model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vivavoce.errors import InputError, ModelFileError, Unsupported, shown
from vivavoce.text.languages import NAMES, language_code
from vivavoce.types import Voice

if TYPE_CHECKING:
    from vivavoce.engines.qwen3.config import Qwen3Config

AUTO = "auto"
DIALECT = "dialect"
"""What the names of dialects end with: speakers have them, callers do not choose them."""


def known_languages(ids: Mapping[str, int]) -> tuple[str, ...]:
    """The names a caller may choose from."""
    return tuple(name for name in ids if not name.endswith(DIALECT))


def language_codes(names: Iterable[str]) -> tuple[str, ...]:
    """ISO 639-1 codes of those names that have one, sorted."""
    return tuple(sorted({NAMES[name] for name in names if name in NAMES}))


def model_language(wanted: str | None, ids: Mapping[str, int]) -> str:
    """The checkpoint's name of a language given by that name, a code or a tag; None is "auto".

    Raises Unsupported that lists what there is.
    """
    name = (wanted or AUTO).strip().lower()
    known = known_languages(ids)
    if name == AUTO or name in known:
        return name
    try:
        code = language_code(name)
    except InputError:
        code = ""
    for each in known:
        if NAMES.get(each) == code:
            return each
    listed = ", ".join(sorted([AUTO, *known]))
    raise Unsupported(
        f"Unknown language {shown(name)}. Known languages: {listed}.", param="language"
    )


ENGINE = "qwen3"
DESIGN = "design"
NEUTRAL = "neutral"
FORMAT = "vivavoce-qwen3-voice-1"
NO_STATE: Mapping[str, NDArray[Any]] = MappingProxyType({})

ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "alloy": "ryan",
        "echo": "aiden",
        "fable": "dylan",
        "onyx": "uncle_fu",
        "nova": "vivian",
        "shimmer": "serena",
        "ash": "aiden",
        "ballad": "eric",
        "cedar": "ryan",
        "coral": "sohee",
        "marin": "serena",
        "sage": "ono_anna",
        "verse": "eric",
    }
)
"""OpenAI's voice names and the published speaker each stands for."""


@dataclass(frozen=True, slots=True)
class ClonedVoice:
    """What is kept of a recording.

    ``x_vector`` float32 [hidden]. With a transcript also its token ids ``text_ids`` int64 [n],
    ``codes`` int64 [frames, 16], and ``codec_state``: one row of the codec's decoder after them.
    """

    x_vector: NDArray[np.float32]
    text_ids: NDArray[np.int64] | None = None
    codes: NDArray[np.int64] | None = None
    codec_state: Mapping[str, NDArray[Any]] = field(default_factory=lambda: NO_STATE)

    @property
    def in_context(self) -> bool:
        """Whether the recording itself is continued, not only its speaker imitated."""
        return self.codes is not None and self.text_ids is not None

    def digest(self) -> str:
        """A short name for what this voice sounds like."""
        summed = hashlib.sha256(self.x_vector.tobytes())
        if self.codes is not None:
            summed.update(self.codes.tobytes())
        return summed.hexdigest()[:12]

    def to_bytes(self) -> bytes:
        """As a safetensors file."""
        from safetensors.numpy import save

        tensors: dict[str, NDArray[Any]] = {"x_vector": self.x_vector}
        if self.codes is not None and self.text_ids is not None:
            tensors |= {"codes": self.codes, "text_ids": self.text_ids}
            tensors |= {_STATE + name: part for name, part in self.codec_state.items()}
        whole: bytes = save(
            {name: np.ascontiguousarray(part) for name, part in tensors.items()},
            metadata={"format": FORMAT},
        )
        return whole

    @classmethod
    def from_bytes(cls, data: bytes) -> ClonedVoice:
        """The inverse of ``to_bytes``. Raises ModelFileError for damaged data."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            tensors = load(data)
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise ModelFileError("The saved voice is damaged.") from error
        voice = cls(
            tensors.get("x_vector", np.zeros(0, np.float32)),
            tensors.get("text_ids"),
            tensors.get("codes"),
            {n.removeprefix(_STATE): part for n, part in tensors.items() if n.startswith(_STATE)},
        )
        voice._check()
        return voice

    def _check(self) -> None:
        state = [part for part in self.codec_state.values() if part.dtype.kind == "f"]
        floats = [self.x_vector, *state]
        whole = self.x_vector.ndim == 1 and self.x_vector.dtype == np.float32
        whole = whole and all(len(part) and bool(np.isfinite(part).all()) for part in floats)
        if (self.codes is None) is not (self.text_ids is None):
            whole = False
        for part, dimensions in ((self.codes, 2), (self.text_ids, 1)):
            if part is not None:
                right = part.ndim == dimensions and part.dtype == np.int64
                whole = whole and right and len(part) > 0
        if not whole:
            raise ModelFileError("The saved voice is damaged: it does not hold a voice.")


_STATE = "codec."


def builtin_voices(config: Qwen3Config) -> tuple[Voice, ...]:
    """CustomVoice: its speakers. VoiceDesign: "design". Base: "neutral", without a speaker."""
    codes = language_codes(known_languages(config.talker.codec_language_id))
    if config.kind == "custom_voice":
        return tuple(
            Voice(
                name,
                ENGINE,
                name.replace("_", " ").title(),
                codes,
                description=_dialect(config, name),
            )
            for name in config.talker.spk_id
        )
    if config.kind == "voice_design":
        described = "A voice made from the request's instructions."
        return (Voice(DESIGN, ENGINE, "Design", codes, description=described),)
    described = "No speaker in particular: a speaker vector of zeros. Clone a voice instead."
    nobody = ClonedVoice(np.zeros(config.talker.hidden_size, np.float32))
    return (Voice(NEUTRAL, ENGINE, "Neutral", codes, description=described, data=nobody),)


def _dialect(config: Qwen3Config, name: str) -> str:
    dialect = config.talker.spk_is_dialect.get(name)
    return "" if dialect is None else f"Speaks Chinese as {dialect.replace('_', ' ')}."


def cloned(voice: Voice) -> ClonedVoice | None:
    """The state of a cloned or neutral voice; None of a built-in one."""
    return voice.data if isinstance(voice.data, ClonedVoice) else None
