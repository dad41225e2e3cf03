"""Names of files that a request may have written."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from vivavoce.errors import InputError
from vivavoce.serving.outputs import OutputFolder

CONTROLS = [
    character
    for character in map(chr, range(0x110000))
    if unicodedata.category(character) in ("Cc", "Zl", "Zp", "Cs")
    or unicodedata.bidirectional(character)
    in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
]
MARKS = ["\u200e", "\u200f", "\u061c", "\u200b", "\ufeff", "\u2060", "\U000e0041"]
NAMES = [
    "-rf.wav", ".hidden.wav", ".", "..", ".wav", "a.wav.", "a.wav ", "a.", "a:b.wav", "a\\b.wav",
    "a|b.wav", "a?.wav", "a*.wav", 'a".wav', "<a>.wav", "CON", "con.wav", "Nul.tar.wav", "aux",
    "COM1.wav", "lpt9", "com¹.wav", "CONIN$", "nul .wav", "PRN",
]  # fmt: skip
FINE = [
    "a.wav",
    "Grüße an Zoë.flac",
    "日本語.ogg",
    "a-b_c.1.mp3",
    "console.wav",
    "com10.wav",
    "🙂.wav",
]
FINE += ["می\u200cخواهم.wav", "nulls", "a b  c.wav", "(1).wav"]


@pytest.fixture
def folder(tmp_path: Path) -> OutputFolder:
    for name in ("sub", "-x", ".git", "con", "tail.", "con.d", "rtl\u202e"):
        (tmp_path / "out" / name).mkdir(parents=True)
    return OutputFolder(tmp_path / "out")


def refuses(folder: OutputFolder, name: str) -> bool:
    try:
        folder.path(name)
    except InputError as error:
        assert error.param == "output"
        assert error.message.isprintable()
        return True
    return False


def test_no_control_or_bidirectional_character_is_in_a_name(folder: OutputFolder) -> None:
    for each in (*CONTROLS, *MARKS):
        for name in (f"a{each}b.wav", f"{each}.wav", f"a.wav{each}"):
            assert refuses(folder, name), ascii(name)


@pytest.mark.parametrize("name", NAMES)
def test_no_name_deceives_hides_or_is_a_device(folder: OutputFolder, name: str) -> None:
    assert refuses(folder, name)
    assert refuses(folder, f"sub/{name}")


@pytest.mark.parametrize("part", ["-x", ".git", "con", "tail.", "con.d", "rtl\u202e", "..", "."])
def test_nor_does_a_folder_on_the_way(folder: OutputFolder, part: str) -> None:
    assert refuses(folder, f"{part}/a.wav")
    assert refuses(folder, f"sub/../{part}/a.wav")


@pytest.mark.parametrize("name", FINE)
def test_ordinary_names_of_any_language_are_taken(folder: OutputFolder, name: str) -> None:
    assert folder.root is not None
    assert folder.path(name) == folder.root.resolve() / name
    assert folder.path(f"sub/{name}") == folder.root.resolve() / "sub" / name


def test_what_leads_to_the_folder_is_its_owners(tmp_path: Path) -> None:
    owned = OutputFolder(tmp_path / ".local" / "-spoken")
    assert owned.root is not None
    assert owned.path(str(owned.root / "a.wav")) == owned.root / "a.wav"
    assert refuses(owned, str(owned.root / ".a.wav"))
    linked = tmp_path / "link"
    linked.symlink_to(owned.root)
    through = OutputFolder(linked)
    for whole in (linked / "a.wav", owned.root / "a.wav"):
        assert through.path(str(whole)) == owned.root / "a.wav"
