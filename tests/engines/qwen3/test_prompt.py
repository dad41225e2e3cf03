from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from engines.qwen3.tiny import config_of, tiny_json, tiny_talker
from vivavoce.engines.qwen3.config import ModelKind, Qwen3Config
from vivavoce.engines.qwen3.prompt import (
    NEWLINE_TOKEN_ID,
    USER_TOKEN_ID,
    Layout,
    PromptInputs,
    Reference,
    Row,
    embed,
    language_id,
    plan,
    speaker_id,
)
from vivavoce.errors import EmptyInput, InputError, UnknownVoice, Unsupported, VivavoceError

TEXT = [11, 12, 13]
START, END, PAD, BOS, EOS, ASSISTANT = 900, 901, 902, 903, 904, 905
CODEC_PAD, CODEC_BOS = 2148, 2149
RYAN, ENGLISH = 3061, 2050
ROLE = [Row(START), Row(ASSISTANT), Row(NEWLINE_TOKEN_ID)]


def config(kind: ModelKind = "custom_voice", *, wide: bool = False) -> Qwen3Config:
    return config_of(tiny_json(kind, wide=wide))


def by_name(**more: object) -> PromptInputs:
    return replace(PromptInputs(TEXT, "english", "ryan"), **more)  # type: ignore[arg-type]


def cloned(frames: int = 4, text: list[int] | None = None, **more: object) -> PromptInputs:
    reference = Reference([21, 22], torch.arange(frames * 16).reshape(frames, 16))
    made = PromptInputs(text or TEXT, x_vector=torch.ones(32), reference=reference)
    return replace(made, **more)  # type: ignore[arg-type]


ENGLISH_RYAN = [
    Row(PAD, 2154),
    Row(PAD, 2156),
    Row(PAD, ENGLISH),
    Row(PAD, 2157),
    Row(PAD, RYAN),
    Row(BOS, CODEC_PAD),
]
AUTO_CLONE = [
    Row(PAD, 2155),
    Row(PAD, 2156),
    Row(PAD, 2157),
    Row(PAD, x_vector=True),
    Row(BOS, CODEC_PAD),
]


def test_streaming_text() -> None:
    laid = plan(config(), by_name())
    assert list(laid.rows) == [*ROLE, *ENGLISH_RYAN, Row(11, CODEC_BOS)]
    assert laid.trailing == (12, 13, EOS)
    assert laid.prefix == 9


def test_open_text_has_no_end_yet() -> None:
    laid = plan(config(), by_name(text_open=True))
    assert laid.trailing == (12, 13)
    assert laid.text_open


def test_one_token_of_text() -> None:
    assert plan(config(), by_name(text_ids=[11])).trailing == (EOS,)


def test_whole_text() -> None:
    laid = plan(config(), by_name(layout=Layout.WHOLE))
    text = [Row(id_, CODEC_PAD) for id_ in (*TEXT, EOS)]
    assert list(laid.rows) == [*ROLE, *ENGLISH_RYAN, *text, Row(PAD, CODEC_BOS)]
    assert laid.trailing == ()


def test_instructions_stand_first_and_leave_nothing_fixed() -> None:
    laid = plan(config(wide=True), by_name(instruct_ids=[5, 6]))
    ids = [START, USER_TOKEN_ID, NEWLINE_TOKEN_ID, 5, 6, END, NEWLINE_TOKEN_ID]
    assert list(laid.rows) == [
        *(Row(id_) for id_ in ids),
        *ROLE,
        *ENGLISH_RYAN,
        Row(11, CODEC_BOS),
    ]
    assert laid.prefix == 0


def test_a_designed_voice_has_no_speaker_row() -> None:
    laid = plan(config("voice_design"), PromptInputs(TEXT, "english", instruct_ids=[5]))
    assert len(laid.rows) == 6 + 9
    assert not any(row.x_vector or row.code == RYAN for row in laid.rows)


def test_an_x_vector_stands_in_the_speaker_row() -> None:
    laid = plan(config("base"), PromptInputs(TEXT, x_vector=torch.ones(32)))
    assert list(laid.rows) == [*ROLE, *AUTO_CLONE, Row(11, CODEC_BOS)]


def test_a_reference_longer_than_the_text() -> None:
    laid = plan(config("base"), cloned(frames=8))
    texts = [21, 22, *TEXT, EOS, PAD, PAD, PAD]
    codes = [Row(code=CODEC_BOS), *(Row(frame=number) for number in range(8))]
    beside = [row._replace(text=id_) for row, id_ in zip(codes, texts, strict=True)]
    assert list(laid.rows) == [*ROLE, *AUTO_CLONE, *beside]
    assert laid.trailing == ()
    assert laid.prefix == 8 + 2


def test_a_text_longer_than_the_reference() -> None:
    laid = plan(config("base"), cloned(frames=2))
    beside = [Row(21, CODEC_BOS), Row(22, frame=0), Row(11, frame=1)]
    assert list(laid.rows) == [*ROLE, *AUTO_CLONE, *beside]
    assert laid.trailing == (12, 13, EOS)


def test_as_many_text_tokens_as_reference_rows() -> None:
    laid = plan(config("base"), cloned(frames=5))
    assert len(laid.rows) == 8 + 6
    assert laid.trailing == ()


def test_a_reference_with_whole_text() -> None:
    laid = plan(config("base"), cloned(frames=2, layout=Layout.WHOLE))
    text = [Row(id_, CODEC_PAD) for id_ in (21, 22, *TEXT, EOS)]
    codes = [Row(PAD, CODEC_BOS), Row(PAD, frame=0), Row(PAD, frame=1)]
    assert list(laid.rows) == [*ROLE, *AUTO_CLONE, *text, *codes]
    assert laid.prefix == 8 + 2


@pytest.mark.parametrize("more", [{}, {"layout": Layout.WHOLE}, {"text_ids": [40, 41, 42, 43, 44]}])
@pytest.mark.parametrize("speaking", [by_name(), cloned(frames=3), cloned(frames=9)])
def test_fixed_rows_do_not_depend_on_the_text(
    speaking: PromptInputs, more: dict[str, object]
) -> None:
    kind: ModelKind = "base" if speaking.reference else "custom_voice"
    one = plan(config(kind), replace(speaking, **more))  # type: ignore[arg-type]
    other = plan(config(kind), replace(speaking, **(more | {"text_ids": [70]})))  # type: ignore[arg-type]
    assert one.prefix == other.prefix
    assert one.rows[: one.prefix] == other.rows[: one.prefix]
    assert one.rows[one.prefix] != other.rows[one.prefix]


def test_each_row_is_the_sum_of_its_sides() -> None:
    settings = config("base")
    talker = tiny_talker(settings)
    speaking = cloned(frames=3, x_vector=torch.randn(32))
    laid = plan(settings, speaking)
    assert speaking.reference is not None
    frames = talker.embed_frames(speaking.reference.codes)
    expected = []
    for row in laid.rows:
        vector = torch.zeros(32)
        if row.text is not None:
            vector = vector + talker.embed_text(torch.tensor(row.text))
        if row.code is not None:
            vector = vector + talker.embed_code(torch.tensor(row.code))
        if row.frame is not None:
            vector = vector + frames[row.frame]
        expected.append(vector + speaking.x_vector if row.x_vector else vector)
    whole = embed(talker, laid.rows, speaking)
    assert torch.allclose(whole, torch.stack(expected), atol=1e-5)
    parts = (laid.rows[: laid.prefix], laid.rows[laid.prefix :])
    joined = torch.cat([embed(talker, part, speaking) for part in parts])
    assert torch.allclose(joined, whole, atol=1e-5)


@pytest.mark.parametrize(
    ("language", "speaker", "expected"),
    [
        ("auto", "ryan", None),
        ("Auto", "dylan", 2074),
        ("chinese", "Dylan", 2074),
        ("Chinese", "eric", 2062),
        ("chinese", "ryan", 2055),
        ("english", "eric", 2050),
        ("GERMAN", None, 2053),
    ],
)
def test_languages_and_dialects(language: str, speaker: str | None, expected: int | None) -> None:
    assert language_id(config(), language, speaker) == expected


@pytest.mark.parametrize("language", ["klingon", "", "beijing_dialect", "en"])
def test_unknown_languages(language: str) -> None:
    with pytest.raises(Unsupported, match=r"Known languages: auto, chinese, english") as raised:
        plan(config(), by_name(language=language))
    assert raised.value.param == "language"


def test_speakers() -> None:
    assert speaker_id(config(), "RYAN") == RYAN
    with pytest.raises(UnknownVoice, match="Known voices: aiden, dylan"):
        plan(config(), by_name(speaker="bob"))


OPEN = {"text_open": True}


@pytest.mark.parametrize(
    ("kind", "speaking", "error", "words"),
    [
        ("custom_voice", by_name(text_ids=[]), EmptyInput, "can be spoken"),
        ("custom_voice", by_name(speaker=None), InputError, "speaker"),
        ("custom_voice", by_name(instruct_ids=[1]), Unsupported, "0.6B"),
        ("custom_voice", by_name(x_vector=torch.ones(32)), Unsupported, "clone"),
        ("custom_voice", by_name(text_open=True, layout=Layout.WHOLE), Unsupported, "in pieces"),
        ("voice_design", by_name(instruct_ids=[1]), Unsupported, "no speakers"),
        ("voice_design", by_name(speaker=None), InputError, "describe a voice"),
        ("voice_design", cloned(instruct_ids=[1]), Unsupported, "clone"),
        ("base", by_name(), Unsupported, "cloned voices only"),
        ("base", cloned(x_vector=None), Unsupported, "cloned voices only"),
        ("base", cloned(instruct_ids=[1]), Unsupported, "no instructions"),
        ("base", cloned(text_open=True), Unsupported, "in pieces"),
        ("base", cloned(frames=0), InputError, "its codes"),
    ],
)
def test_what_a_model_cannot_do(
    kind: ModelKind, speaking: PromptInputs, error: type[VivavoceError], words: str
) -> None:
    with pytest.raises(error, match=words):
        plan(config(kind), speaking)
