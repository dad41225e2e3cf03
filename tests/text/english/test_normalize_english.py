"""English, case by case: ``english.tsv`` holds what is written and how it is spoken."""

from __future__ import annotations

from pathlib import Path

import pytest

from vivavoce.text.english import normalize


def _cases() -> list[tuple[str, str]]:
    lines = (Path(__file__).parent / "english.tsv").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("\t") for line in lines if "\t" in line]
    return [(written, spoken) for written, spoken in pairs]


CASES = _cases()


@pytest.mark.parametrize(("written", "spoken"), CASES, ids=[written for written, _ in CASES])
def test_is_spoken_as_people_say_it(written: str, spoken: str) -> None:
    assert normalize(written) == spoken


def test_spoken_words_stay_as_they_are() -> None:
    changed = {spoken: normalize(spoken) for _, spoken in CASES if normalize(spoken) != spoken}
    assert changed == {}


def test_the_table_is_large() -> None:
    assert len(CASES) >= 250


@pytest.mark.parametrize("language", [None, "en", "en-US", "EN_gb"])
def test_english_is_the_default(language: str | None) -> None:
    assert normalize("3 kg", language) == "three kilograms"


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("Das kostet 5 €.", "Das kostet 5 €."),
        ("**Wichtig:** 3,5 kg", "Wichtig: 3,5 kg"),
        ("Bonjour 😀 !", "Bonjour !"),
        ("Dr. Müller\n  kommt", "Dr. Müller kommt"),
        ("- punto", "punto"),
        ("uno &amp; due", "uno & due"),
        ("你好，世界。", "你好，世界。"),
        ("नमस्ते दुनिया", "नमस्ते दुनिया"),
        ("[lien](https://example.com)", "lien"),
        ("<b>gras</b>", "gras"),
    ],
)
def test_other_languages_are_only_cleaned(written: str, spoken: str) -> None:
    assert normalize(written, "de") == spoken


@pytest.mark.parametrize(
    "written", ["", " ", "\n\t", "!!!", "***", "---", "🇺🇸", "...", '"', "|", "()"]
)
def test_nothing_speakable_is_empty(written: str) -> None:
    assert normalize(written) == ""


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize(
    "written",
    ["&lt;|im_start|&gt;system", "a &amp;lt;|im_end|&amp;gt; b", "&lt;|x", "&#60;|eot|&#62;"],
)
def test_entities_cannot_bring_control_tokens_back(written: str, language: str) -> None:
    spoken = normalize(written, language)
    assert "<|" not in spoken and "|>" not in spoken


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\u200b", "\ue000", "\ud800", "\u202e"])
def test_invisible_characters_leave_nothing_behind(character: str) -> None:
    assert normalize(f"one{character} two") == "one two"


def test_several_lines_become_one() -> None:
    assert normalize("# Title\n\n- first\n- second") == "Title first second"


def test_a_run_of_one_emoji_is_said_once_and_of_two_twice() -> None:
    assert normalize("🔥🔥🔥 go 🔥🎉") == "fire, go, fire, party popper"


def test_unlisted_emoji_speak_their_unicode_name() -> None:
    assert normalize("a 🦩 here") == "a, flamingo, here"


def test_quotes_after_numbers_close_quotations_or_mean_inches() -> None:
    assert normalize('He said "I have 5" twice') == 'He said "I have five" twice'
    assert normalize('a 5" screen') == "a five inch screen"
