"""Names of what is saved: any letters, one spelling, and file names that do everywhere."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vivavoce.errors import InputError
from vivavoce.speech.store import MAX_NAME_CHARS, checked_name, file_stem, folded


@pytest.mark.parametrize(
    "name",
    [
        "anna", "Anna_2.b-c", "A", "7", "x" * 64, "Anna Müller", "Ωmega", "さくら", "老 师", "मीना",
        "محمد", "Zoë", "𐌰𐌱", "con", "a..b", "name.json", "50 Cent",
    ],
)  # fmt: skip
def test_names_that_can_be(name: str) -> None:
    assert checked_name(name) == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize(
    "name",
    [
        "", " ", " anna", "anna ", ".", "..", ".hidden", "-x", "_x", "a/b", "a\\b", "../evil",
        "C:\\x", "nul\0", "a\nb", "a\tb", "x" * 65, "a\u202eb", "a\u200bb", "a\u200db", "\ufeffa",
        "a\u00a0b", "a\u2028b", "\ud800", "a%2fb", "a~b", "a*", "a?", "a:b", 'a"b', "<a>", "a|b",
        "\u0301a",
    ],
)  # fmt: skip
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(InputError) as caught:
        checked_name(name)
    assert caught.value.param == "name"


def test_two_spellings_are_one_name() -> None:
    assert checked_name("Zoe\u0308") == checked_name("Zo\u00eb")


def test_case_alone_tells_nothing_apart() -> None:
    assert folded("Anna") == folded("ANNA")
    assert folded("straße") == folded("STRASSE")
    assert folded("anna") != folded("anne")


@pytest.mark.parametrize("name", ["anna", "Anna_2.b-c", "x" * 64])
def test_a_plain_name_is_its_own_file_name(name: str) -> None:
    assert file_stem(name) == name


@pytest.mark.parametrize("name", ["con", "NUL", "com1", "aux.x", "Anna Müller", "さくら", "𐌰" * 64])
def test_other_names_have_file_names_that_do_everywhere(name: str) -> None:
    stem = file_stem(name)
    assert re.fullmatch(r"[A-Za-z0-9-]{0,40}~[0-9a-f]{16}", stem)
    assert len(f"{stem}~00000000.voice") < 255


@given(st.text(max_size=80))
def test_what_is_let_pass_is_a_safe_file_name(name: str) -> None:
    try:
        normal = checked_name(name)
    except InputError:
        return
    assert 1 <= len(normal) <= MAX_NAME_CHARS
    assert checked_name(normal) == normal
    assert re.fullmatch(r"[A-Za-z0-9_.~-]+", file_stem(normal))
    assert not file_stem(normal).startswith(".")


@given(st.text(max_size=20), st.text(max_size=20))
def test_two_names_have_two_files(one: str, other: str) -> None:
    assume(one != other)
    assert file_stem(one) != file_stem(other)
