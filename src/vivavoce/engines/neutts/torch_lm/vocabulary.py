"""Token ids of a checkpoint in the Hugging Face layout, from its tokenizer.json.

Added tokens (END, 65,536 speech codes) are looked up by name and never parsed out of text: text
goes through the tokenizer without them, so that nothing a caller writes becomes a control token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from vivavoce.engines.neutts.backbone import SPEECH_CODES, Codes
from vivavoce.engines.neutts.family import FIRST_SPEECH, SPEECH_END, Family, find_family
from vivavoce.errors import InputError, MissingExtra, ModelFileError

TOKENIZER = "tokenizer.json"
SPECIAL = re.compile(r"(<\|\w+\|>)")


@dataclass(frozen=True, slots=True)
class TorchVocabulary:
    """The tokens of one checkpoint (contract of ``neutts.backbone.Vocabulary``)."""

    family: Family
    header_ids: tuple[int, ...]
    middle_ids: tuple[int, ...]
    end_id: int
    first_speech_id: int
    added: Mapping[str, int]
    text: Any

    def tokenize(self, text: str) -> tuple[int, ...]:
        """Plain text to ids; names of special tokens are text like any other."""
        return tuple(self.text.encode(text, add_special_tokens=False).ids)

    def speech_ids(self, codes: Codes | Sequence[int]) -> tuple[int, ...]:
        """Ids of speech codes. Raises InputError for codes out of range."""
        given = np.asarray(codes, np.int64).reshape(-1)
        if given.size and (given.min() < 0 or given.max() >= SPEECH_CODES):
            raise InputError(f"Speech codes are 0 to {SPEECH_CODES - 1}.", param="voice")
        return tuple((given + self.first_speech_id).tolist())

    def token_id(self, token: str) -> int | None:
        """The id of a token by its name; None where unknown."""
        found = self.added.get(token)
        return self.text.token_to_id(token) if found is None else found


def load_vocabulary(folder: Path, architecture: str) -> TorchVocabulary:
    """Read ``folder``/tokenizer.json. Raises ModelFileError, MissingExtra."""
    if find_spec("tokenizers") is None:
        raise MissingExtra("A PyTorch backbone of NeuTTS", "neutts-torch")
    path = folder / TOKENIZER
    stored = _read(path)
    added = _added(path, stored)
    text = _text_tokenizer(path, stored)

    def find(token: str) -> int | None:
        found = added.get(token)
        return text.token_to_id(token) if found is None else found

    family = find_family(architecture, lambda token: find(token) is not None)
    first = find(FIRST_SPEECH) or 0
    _check_speech(path, first, added, text)
    bos = tuple(text.encode("", add_special_tokens=True).ids)

    def ids(pattern: str) -> tuple[int, ...]:
        return tuple(_mixed_ids(path, pattern, find, text))

    end = find(SPEECH_END) or 0
    return TorchVocabulary(
        family, bos + ids(family.header), ids(family.middle), end, first, added, text
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ModelFileError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(stored, dict) or not isinstance(stored.get("model"), dict):
        raise ModelFileError(f"{path} is no tokenizer.")
    return stored


def _added(path: Path, stored: Mapping[str, Any]) -> dict[str, int]:
    try:
        return {str(each["content"]): int(each["id"]) for each in stored.get("added_tokens") or ()}
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path} is damaged: its added_tokens are wrong.") from error


def _text_tokenizer(path: Path, stored: Mapping[str, Any]) -> Any:
    """The tokenizer without its added tokens."""
    from tokenizers import Tokenizer

    plain = {**stored, "added_tokens": [], "padding": None, "truncation": None}
    try:
        return Tokenizer.from_str(json.dumps(plain))
    except Exception as error:
        raise ModelFileError(f"{path} cannot be used: {error}") from error


def _check_speech(path: Path, first: int, added: Mapping[str, int], text: Any) -> None:
    """Speech codes must follow one another: their ids are computed, not looked up."""
    for code in (1, 2, 255, 256, 4095, 32_767, SPEECH_CODES - 1):
        name = f"<|speech_{code}|>"
        found = added.get(name, text.token_to_id(name))
        if found != first + code:
            raise ModelFileError(f"{path}: {name} is {found}, not {first + code}.")


def _mixed_ids(path: Path, pattern: str, find: Any, text: Any) -> list[int]:
    """Ids of a layout's fixed text, its special tokens by name."""
    ids: list[int] = []
    for part in SPECIAL.split(pattern):
        if SPECIAL.fullmatch(part):
            ids.append(find(part))
        elif part:
            ids += text.encode(part, add_special_tokens=False).ids
    return ids
