"""The NeuTTS models: which one a file holds, and what is published under which name and licence.

Air (Qwen2) and Nano (Llama) read phonemes, 2E (Qwen3) reads plain text and takes emotions. What a
file says of itself (``neuphonic.input_format``) comes before what its architecture suggests, so
that fine-tuned models keep their layout. All repositories are gated: their files need an account
that accepted the licence, and its token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
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


OWNER = "neuphonic"
APACHE = "Apache-2.0"
NEUTTS_OPEN = "NeuTTS Open License 1.0"

Kind: TypeAlias = Literal["torch", "gguf"]


@dataclass(frozen=True, slots=True)
class PublishedBackbone:
    """One repository of a backbone; ``language`` (ISO 639-1) is the one that it speaks.

    ``weights_bytes`` is the size of its weights, 0 where that is not known.
    """

    repo: str
    family: Family
    language: str
    kind: Kind
    licence: str
    weights_bytes: int = 0


@dataclass(frozen=True, slots=True)
class PublishedCodec:
    """One repository of NeuCodec; ``encodes``: with the encoder that clones voices."""

    repo: str
    weights_bytes: int
    encodes: bool
    licence: str = APACHE


AIR_BYTES = {"torch": 1_495_893_752, "-q4-gguf": 527_054_304, "-q8-gguf": 802_658_528}
NANO_BYTES = {"torch": 914_843_656, "-q4-gguf": 194_600_640, "-q8-gguf": 252_744_384}


def _published() -> tuple[PublishedBackbone, ...]:
    named = [
        ("neutts-air", AIR, "en", APACHE, AIR_BYTES),
        ("neutts-nano", NANO, "en", NEUTTS_OPEN, NANO_BYTES),
        ("neutts-nano-german", NANO, "de", NEUTTS_OPEN, NANO_BYTES),
        ("neutts-nano-french", NANO, "fr", NEUTTS_OPEN, NANO_BYTES),
        ("neutts-nano-spanish", NANO, "es", NEUTTS_OPEN, NANO_BYTES),
        ("neutts-2e", TWO_E, "en", NEUTTS_OPEN, {}),
    ]
    kinds: tuple[tuple[str, Kind], ...] = (
        ("", "torch"),
        ("-q4-gguf", "gguf"),
        ("-q8-gguf", "gguf"),
    )
    return tuple(
        PublishedBackbone(
            f"{OWNER}/{name}{suffix}", family, language, kind, licence, sizes.get(suffix or kind, 0)
        )
        for name, family, language, licence, sizes in named
        for suffix, kind in kinds
    )


BACKBONES = _published()
CODECS = (
    PublishedCodec(f"{OWNER}/neucodec", 2_519_855_456, encodes=True),
    PublishedCodec(f"{OWNER}/distill-neucodec", 0, encodes=True),
    PublishedCodec(f"{OWNER}/neucodec-onnx-decoder", 782_565_930, encodes=False),
    PublishedCodec(f"{OWNER}/neucodec-onnx-decoder-int8", 312_292_102, encodes=False),
)
REPOS = (*(each.repo for each in BACKBONES), *(each.repo for each in CODECS))

_WORDS = {"german": "de", "french": "fr", "spanish": "es"}


def published_backbone(repo: str) -> PublishedBackbone | None:
    """The published repository of that name, at whatever ``@COMMIT``; None for any other."""
    plain = repo.partition("@")[0].lower()
    return next((each for each in BACKBONES if each.repo.lower() == plain), None)


def published_codec(repo: str) -> PublishedCodec | None:
    """The published codec of that name, at whatever ``@COMMIT``; None for any other."""
    plain = repo.partition("@")[0].lower()
    return next((each for each in CODECS if each.repo.lower() == plain), None)


def likely_family(backbone: str) -> Family:
    """What a repository or path probably holds, told by its name until it is read."""
    known = published_backbone(backbone)
    if known is not None:
        return known.family
    name = Path(backbone).name.lower()
    if "2e" in name:
        return TWO_E
    return AIR if "air" in name else NANO


def likely_language(backbone: str) -> str:
    """The language a repository or path speaks, told by its name; English where it says none."""
    known = published_backbone(backbone)
    if known is not None:
        return known.language
    name = Path(backbone).name.lower()
    return next((code for word, code in _WORDS.items() if word in name), "en")
