"""What the talker reads before its first frame, for every kind of model and layout.

A prompt is planned as rows of ids, then embedded: each row is the sum of a text-side and a
codec-side vector, either of which may be absent. The layouts are those of the published models.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from vivavoce.engines.qwen3.config import Qwen3Config
from vivavoce.engines.qwen3.options import TextLayout, instructions_of
from vivavoce.engines.qwen3.row_speech import RowSpeech
from vivavoce.engines.qwen3.talker import Talker
from vivavoce.engines.qwen3.tokenizer import TextTokenizer
from vivavoce.engines.qwen3.voices import ClonedVoice, cloned, model_language
from vivavoce.errors import EmptyInput, InputError, UnknownVoice, Unsupported, shown
from vivavoce.runtime.graphs.transfer import to_device

USER_TOKEN_ID = 872
NEWLINE_TOKEN_ID = 198
AUTO = "auto"
_SMALL = "0b6"

PLAIN_VOICE = "A clear adult voice, calm and friendly, at an even pace."
"""What a VoiceDesign model speaks as where nobody described a voice: the proof at start."""


class Layout(enum.Enum):
    """Whether text is fed a token a frame, or stands in the prompt as a whole."""

    STREAMING = "streaming"
    WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class Reference:
    """What was said in a recording and how, for in-context cloning.

    ``text_ids``: token ids of the transcript; ``codes``: int64 [frames, 16].
    """

    text_ids: Sequence[int]
    codes: Tensor


@dataclass(frozen=True, slots=True)
class PromptInputs:
    """What to say and as whom. ``text_ids`` and ``instruct_ids`` are bare tokens, without markers.

    ``speaker`` is a name of the configuration (CustomVoice); ``x_vector`` [hidden] and
    ``reference`` belong to a cloned voice (Base). ``text_open``: more text will follow.
    """

    text_ids: Sequence[int]
    language: str = AUTO
    speaker: str | None = None
    x_vector: Tensor | None = None
    instruct_ids: Sequence[int] = ()
    reference: Reference | None = None
    layout: Layout = Layout.STREAMING
    text_open: bool = False


@dataclass(frozen=True, slots=True)
class PromptRequest:
    """What a row begins with, as the engine says it: no tensors.

    ``speaker`` is a name of the configuration, ``clone`` a voice from a recording.
    """

    text_ids: Sequence[int]
    language: str
    speaker: str | None = None
    clone: ClonedVoice | None = None
    instruct_ids: Sequence[int] = ()
    whole: bool = False
    text_open: bool = False

    def inputs(self) -> PromptInputs:
        """With tensors."""
        clone, reference, x_vector = self.clone, None, None
        if clone is not None:
            x_vector = torch.from_numpy(clone.x_vector)
            if clone.codes is not None and clone.text_ids is not None:
                reference = Reference(clone.text_ids.tolist(), torch.from_numpy(clone.codes))
        return PromptInputs(
            self.text_ids,
            self.language,
            self.speaker,
            x_vector,
            self.instruct_ids,
            reference,
            Layout.WHOLE if self.whole else Layout.STREAMING,
            self.text_open,
        )


class Row(NamedTuple):
    """One position: ids of either side; ``frame`` is a frame of the reference."""

    text: int | None = None
    code: int | None = None
    frame: int | None = None
    x_vector: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """The rows of a prompt and the text token ids that follow it, a frame each.

    The first ``prefix`` rows are the same for every text in this voice and language (0 when
    instructions stand before them).
    """

    rows: tuple[Row, ...]
    trailing: tuple[int, ...]
    prefix: int
    text_open: bool = False


@dataclass(slots=True)
class _Draft:
    rows: list[Row] = field(default_factory=list)
    trailing: Sequence[int] = ()
    prefix: int = 0


def request_of(
    speech: RowSpeech, config: Qwen3Config, tokenizer: TextTokenizer, layout: TextLayout
) -> PromptRequest:
    """Text, language, voice and instructions; ``layout`` where the utterance does not say."""
    utterance = speech.utterance
    instructions = instructions_of(utterance)
    if config.kind == "voice_design" and not instructions:
        instructions = PLAIN_VOICE
    wanted = speech.request.text_layout
    return PromptRequest(
        speech.ids,
        model_language(utterance.language, config.talker.codec_language_id),
        utterance.voice.id if config.kind == "custom_voice" else None,
        cloned(utterance.voice) if config.kind == "base" else None,
        tokenizer.encode(instructions) if instructions else (),
        not utterance.text_open and _is_whole(layout if wanted == "auto" else wanted, config),
        utterance.text_open,
    )


def plan(config: Qwen3Config, inputs: PromptInputs) -> Plan:
    """Lay out a prompt.

    Raises EmptyInput, UnknownVoice, or Unsupported for what the kind of model cannot do.
    """
    _check(config, inputs)
    draft = _Draft()
    if inputs.instruct_ids:
        draft.rows += [Row(text=id_) for id_ in _instruct(config, inputs.instruct_ids)]
    role = (config.im_start_token_id, config.assistant_token_id, NEWLINE_TOKEN_ID)
    draft.rows += [Row(text=id_) for id_ in role]
    draft.rows += _control(config, inputs)
    draft.prefix = len(draft.rows)
    if inputs.reference is not None:
        _in_context(config, inputs, inputs.reference, draft)
    elif inputs.layout is Layout.WHOLE:
        _whole(config, inputs, draft)
    else:
        _streaming(config, inputs, draft)
    prefix = 0 if inputs.instruct_ids else draft.prefix
    return Plan(tuple(draft.rows), tuple(draft.trailing), prefix, inputs.text_open)


@torch.no_grad()
def embed(talker: Talker, rows: Sequence[Row], inputs: PromptInputs) -> Tensor:
    """The prompt's vectors [rows, hidden], in the talker's dtype and on its device."""
    weight = talker.codec_head.weight
    out = weight.new_zeros(len(rows), weight.shape[1])
    device = out.device
    at, ids = _side(row.text for row in rows)
    out[to_device(at, device)] += talker.embed_text(to_device(ids, device))
    at, ids = _side(row.code for row in rows)
    out[to_device(at, device)] += talker.embed_code(to_device(ids, device))
    at, ids = _side(row.frame for row in rows)
    if inputs.reference is not None:
        codes = inputs.reference.codes.cpu()[ids]
        out[to_device(at, device)] += talker.embed_frames(to_device(codes, device))
    if inputs.x_vector is not None:
        at, _ = _side(1 if row.x_vector else None for row in rows)
        out[to_device(at, device)] += to_device(inputs.x_vector, device).to(out)
    return out


def language_id(config: Qwen3Config, language: str, speaker: str | None) -> int | None:
    """The codec id of a language; None for "auto". A speaker's dialect goes for auto and Chinese.

    Raises Unsupported.
    """
    ids, name = config.talker.codec_language_id, language.lower()
    known = [each for each in ids if not each.endswith("dialect")]
    if name != AUTO and name not in known:
        listed = ", ".join(sorted([AUTO, *known]))
        raise Unsupported(
            f"Unknown language {shown(language)}. Known languages: {listed}.", param="language"
        )
    dialect = config.talker.spk_is_dialect.get((speaker or "").lower())
    if dialect is not None and name in (AUTO, "chinese"):
        return ids[dialect]
    return None if name == AUTO else ids[name]


def speaker_id(config: Qwen3Config, speaker: str) -> int:
    """The codec id of a built-in speaker. Raises UnknownVoice."""
    try:
        return config.talker.spk_id[speaker.lower()]
    except KeyError:
        raise UnknownVoice(speaker, sorted(config.talker.spk_id)) from None


def _side(ids: Iterable[int | None]) -> tuple[Tensor, Tensor]:
    """Row numbers and ids of one side, where it is not absent."""
    there = [(number, id_) for number, id_ in enumerate(ids) if id_ is not None]
    numbers = torch.tensor(there, dtype=torch.int64).reshape(-1, 2)
    return numbers[:, 0], numbers[:, 1]


def _instruct(config: Qwen3Config, ids: Sequence[int]) -> list[int]:
    start = (config.im_start_token_id, USER_TOKEN_ID, NEWLINE_TOKEN_ID)
    return [*start, *ids, config.im_end_token_id, NEWLINE_TOKEN_ID]


def _control(config: Qwen3Config, inputs: PromptInputs) -> list[Row]:
    """Language and voice; the start of text stands on the last row."""
    talker = config.talker
    language = language_id(config, inputs.language, inputs.speaker)
    codes = [talker.codec_nothink_id, talker.codec_think_bos_id]
    if language is not None:
        codes = [talker.codec_think_id, talker.codec_think_bos_id, language]
    rows = [Row(code=code) for code in (*codes, talker.codec_think_eos_id)]
    if inputs.x_vector is not None:
        rows.append(Row(x_vector=True))
    elif inputs.speaker is not None:
        rows.append(Row(code=speaker_id(config, inputs.speaker)))
    padded = [row._replace(text=config.tts_pad_token_id) for row in rows]
    return [*padded, Row(config.tts_bos_token_id, talker.codec_pad_id)]


def _streaming(config: Qwen3Config, inputs: PromptInputs, draft: _Draft) -> None:
    first, *rest = inputs.text_ids
    draft.rows.append(Row(first, config.talker.codec_bos_id))
    draft.trailing = rest if inputs.text_open else [*rest, config.tts_eos_token_id]


def _whole(config: Qwen3Config, inputs: PromptInputs, draft: _Draft) -> None:
    pad = config.talker.codec_pad_id
    text = [*inputs.text_ids, config.tts_eos_token_id]
    draft.rows += [Row(id_, pad) for id_ in text]
    draft.rows.append(Row(config.tts_pad_token_id, config.talker.codec_bos_id))


def _in_context(
    config: Qwen3Config, inputs: PromptInputs, reference: Reference, draft: _Draft
) -> None:
    talker, pad = config.talker, config.tts_pad_token_id
    spoken = list(reference.text_ids)
    text = [*spoken, *inputs.text_ids, config.tts_eos_token_id]
    codes = [Row(code=talker.codec_bos_id)]
    codes += [Row(frame=number) for number in range(reference.codes.shape[0])]
    if inputs.layout is Layout.WHOLE:
        draft.rows += [Row(id_, talker.codec_pad_id) for id_ in text]
        draft.rows += [row._replace(text=pad) for row in codes]
        draft.prefix += len(spoken)
        return
    beside = text[: len(codes)] + [pad] * (len(codes) - len(text))
    draft.rows += [row._replace(text=id_) for row, id_ in zip(codes, beside, strict=True)]
    draft.trailing = text[len(codes) :]
    draft.prefix += min(len(spoken), len(codes))


def _check(config: Qwen3Config, inputs: PromptInputs) -> None:
    if not inputs.text_ids:
        raise EmptyInput
    if config.kind == "base":
        _check_base(inputs)
    elif inputs.x_vector is not None or inputs.reference is not None:
        raise Unsupported(f"A {config.kind} model cannot clone voices.", param="voice")
    elif config.kind == "custom_voice" and inputs.speaker is None:
        raise InputError("A speaker must be named.", param="voice")
    elif config.kind == "voice_design" and inputs.speaker is not None:
        raise Unsupported(
            "This model has no speakers; it makes a voice from instructions.", param="voice"
        )
    elif config.kind == "voice_design" and not inputs.instruct_ids:
        raise InputError(
            "This model needs instructions that describe a voice.", param="instructions"
        )
    if inputs.instruct_ids and config.kind == "custom_voice" and config.size == _SMALL:
        raise Unsupported(
            "The 0.6B CustomVoice model takes no instructions; the 1.7B models do.",
            param="instructions",
        )
    if inputs.text_open and (inputs.reference or inputs.layout is Layout.WHOLE):
        raise Unsupported(
            "Text in pieces needs the streaming layout and a voice without reference text.",
            param="input",
        )


def _check_base(inputs: PromptInputs) -> None:
    if inputs.speaker is not None or inputs.x_vector is None:
        raise Unsupported("A Base model speaks with cloned voices only.", param="voice")
    if inputs.instruct_ids:
        raise Unsupported("A Base model takes no instructions.", param="instructions")
    reference = inputs.reference
    if reference is not None and (not len(reference.text_ids) or not len(reference.codes)):
        raise InputError("A reference needs its text and its codes.", param="voice")


def _is_whole(layout: TextLayout, config: Qwen3Config) -> bool:
    """Whether the text stands in the prompt; "auto" is how the kind is published."""
    return config.kind != "base" if layout == "auto" else layout == "whole"
