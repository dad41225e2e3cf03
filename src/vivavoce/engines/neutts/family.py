"""Which NeuTTS model a file holds, told from its architecture and its tokens.

Air (Qwen2) and Nano (Llama) read phonemes, 2E (Qwen3) reads plain text and takes emotions. What a
file says of itself (``neuphonic.input_format``) comes before what its architecture suggests, so
that fine-tuned models keep their layout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, TypeAlias

from vivavoce.errors import ModelFileError

PromptLayout: TypeAlias = Literal["phonemes", "text"]
"""What the model reads between its header and its middle."""

TEXT_START = "<|TEXT_PROMPT_START|>"
TEXT_END = "<|TEXT_PROMPT_END|>"
SPEECH_START = "<|SPEECH_GENERATION_START|>"
SPEECH_END = "<|SPEECH_GENERATION_END|>"
FIRST_SPEECH = "<|speech_0|>"
LAST_SPEECH = "<|speech_65535|>"
SPECIAL_TOKENS = (TEXT_START, TEXT_END, SPEECH_START, SPEECH_END, FIRST_SPEECH, LAST_SPEECH)
"""What every model of the family must have."""

HasToken: TypeAlias = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Family:
    """What one model of the family expects and can do.

    ``header`` and ``middle`` are the prompt's fixed text around the spoken text, special tokens
    by name. ``languages`` are ISO 639-1 codes that the published models of this kind speak (each
    Nano file speaks one of them). ``emotions`` and ``speakers`` are empty where there are none.
    """

    name: str
    architecture: str
    layout: PromptLayout
    header: str
    middle: str
    languages: tuple[str, ...]
    context_tokens: int = 2048
    emotions: tuple[str, ...] = ()
    speakers: tuple[str, ...] = ()

    def emotion_token(self, emotion: str) -> str:
        """The special token that takes the place of the space before the text."""
        return emotion_token(emotion)


def emotion_token(emotion: str) -> str:
    """``happy`` to ``<|HAPPY|>``."""
    return f"<|{emotion.upper()}|>"


PHONEME_HEADER = f"user: Convert the text to speech:{TEXT_START}"
PHONEME_MIDDLE = f"{TEXT_END}\nassistant:{SPEECH_START}"
TEXT_HEADER = TEXT_START
TEXT_MIDDLE = f"{TEXT_END}{SPEECH_START}"
EMOTIONS = ("neutral", "angry", "disgusted", "fearful", "happy", "sad", "surprised")
SPEAKERS = ("emily", "paul", "sophie", "steven")

AIR = Family("air", "qwen2", "phonemes", PHONEME_HEADER, PHONEME_MIDDLE, ("en",))
NANO = Family("nano", "llama", "phonemes", PHONEME_HEADER, PHONEME_MIDDLE, ("en", "de", "fr", "es"))
TWO_E = Family(
    "2e",
    "qwen3",
    "text",
    TEXT_HEADER,
    TEXT_MIDDLE,
    ("en",),
    emotions=EMOTIONS,
    speakers=SPEAKERS,
)

FAMILIES = MappingProxyType({family.architecture: family for family in (AIR, NANO, TWO_E)})
"""By architecture, as GGUF's ``general.architecture`` and Hugging Face's ``model_type`` name it."""

_LAYOUTS: dict[str, tuple[PromptLayout, str, str]] = {
    "phonemes": ("phonemes", PHONEME_HEADER, PHONEME_MIDDLE),
    "bpe": ("text", TEXT_HEADER, TEXT_MIDDLE),
    "text": ("text", TEXT_HEADER, TEXT_MIDDLE),
}


def find_family(
    architecture: str,
    has_token: HasToken,
    *,
    input_format: str | None = None,
    emotions: Sequence[str] | None = None,
) -> Family:
    """The family of a model of ``architecture`` whose tokens ``has_token`` knows by name.

    ``input_format`` ("phonemes" or "BPE") and ``emotions`` are what the file says of itself.
    Only emotions that have a token are kept. Raises ModelFileError for another architecture, a
    vocabulary without the special and speech tokens, and an unknown input format.
    """
    family = FAMILIES.get(architecture)
    if family is None:
        known = ", ".join(sorted(FAMILIES))
        raise ModelFileError(
            f"This is a {architecture or 'nameless'} model; NeuTTS models are one of: {known}."
        )
    missing = [token for token in SPECIAL_TOKENS if not has_token(token)]
    if missing:
        raise ModelFileError(f"This is no NeuTTS model: its vocabulary lacks {', '.join(missing)}.")
    if input_format is not None:
        family = _with_layout(family, input_format)
    spoken = emotions if emotions is not None else family.emotions
    return replace(family, emotions=tuple(e for e in spoken if has_token(emotion_token(e))))


def _with_layout(family: Family, input_format: str) -> Family:
    layout = _LAYOUTS.get(input_format.lower())
    if layout is None:
        raise ModelFileError(f"Unknown input format {input_format!r}; phonemes and BPE are known.")
    name, header, middle = layout
    return replace(family, layout=name, header=header, middle=middle)
