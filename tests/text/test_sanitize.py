from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.text.sanitize import MAX_MARKS, defuse, sanitize


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\x00b\x07c\x1b[0m", "abc[0m"),
        ("\ufeffHello\x7f \x9fthere", "Hello there"),
        ("a\tb\r\nc\rd\x0be\x85f\u2028g", "a\tb\nc\nd\ne\nf\ng"),
        ("one\u2029two", "one\n\ntwo"),
        ("abc\u202edef\u2066\u200f", "abcdef"),
        ("zero\u200bwidth\u2060 \u00adsoft", "zerowidth soft"),
        ("\ud800lone\udfff", "lone"),
        ("\ud83d\ude00", "😀"),
        ("\ue000\U000f0000\U00100000private", "private"),
        ("e\u0301", "é"),
        ("👩\u200d🚀 and a\u200db", "👩\u200d🚀 and ab"),
        ("❤\ufe0f\u200d🔥", "❤\ufe0f\u200d🔥"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("क्\u200dष", "क्\u200dष"),
        ("नमस्ते तुम", "नमस्ते तुम"),
        ("plain text, 5 < 6 > 4 [ok]", "plain text, 5 < 6 > 4 [ok]"),
    ],
)
def test_characters(text: str, expected: str) -> None:
    assert sanitize(text) == expected


@pytest.mark.parametrize(
    "token",
    [
        "<|im_start|>",
        "<|im_end|>",
        "<|endoftext|>",
        "<|speech_123|>",
        "<|TEXT_PROMPT_START|>",
        "<|anything at all|>".replace(" ", "-"),
        "<｜begin▁of▁sentence｜>",
        "<s>",
        "</s>",
        "<unk>",
        "<tts_pad>",
        "<tts_text_bos_single>",
        "<audio_start>",
        "<extra_id_12>",
        "<tool_call>",
        "</think>",
        "[INST]",
        "[/INST]",
        "[TOOL_CALLS]",
        "<<SYS>>",
        "<|im_st\u200bart|>",
        "<\x00|im_start|>",
        "<|im\ud800_end|>",
    ],
)
def test_control_tokens_disappear(token: str) -> None:
    assert sanitize(f"Hello {token}dear {token} friend{token}.").split() == [
        "Hello",
        "dear",
        "friend.",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "<|im_<|x|>start|>",
        "<s<s>>",
        "[IN[INST]ST]",
        "<<|im_end|>|im_start|>",
        "<tts_<s>pad>",
        "<|<|",
    ],
)
def test_nested_tokens_do_not_grow_together(text: str) -> None:
    for token in ("<|", "|>", "<s>", "[INST]", "<tts_pad>"):
        assert token not in sanitize(text)


@pytest.mark.parametrize("mark", ["\u0301", "\u0344", "\u0e31", "\u20dd"])
def test_floods_of_marks_are_bounded(mark: str) -> None:
    flooded = sanitize("e" + mark * 10_000 + "x")
    assert len(flooded) <= MAX_MARKS + 2
    assert flooded.endswith("x")


@given(
    st.text()
    | st.lists(st.sampled_from([*"<|>[]/ ._", "s", "im_start", "INST", "tts_pad"])).map("".join)
)
def test_any_text_becomes_harmless(text: str) -> None:
    clean = sanitize(text)
    assert not {unicodedata.category(character) for character in clean} & {"Cs", "Co"}
    assert all(
        character in "\n\t" for character in clean if unicodedata.category(character) == "Cc"
    )
    assert defuse(clean) == clean
    assert "<|" not in clean
    assert unicodedata.is_normalized("NFC", clean)
