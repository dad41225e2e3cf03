from __future__ import annotations

from pathlib import Path

import pytest

from vivavoce.errors import InputError, SettingsError
from vivavoce.text.lexicon import Lexicon
from vivavoce.types import Span


def spoken(text: str, **entries: str) -> str:
    return "".join(span.text for span in Lexicon(entries).apply(text))


def test_respelling_replaces_whole_words_in_any_case() -> None:
    lexicon = Lexicon({"nginx": "engine x", "SQL": "sequel"})
    assert lexicon.apply("NGINX and Sql, not MySQL or sql2.") == (
        Span("engine x and sequel, not MySQL or sql2."),
    )


def test_ipa_becomes_a_span_of_its_own() -> None:
    assert Lexicon({"Siobhán": "/ʃɪˈvɔːn/"}).apply("Ask Siobhán now.") == (
        Span("Ask "),
        Span("Siobhán", "ʃɪˈvɔːn"),
        Span(" now."),
    )


@pytest.mark.parametrize(
    ("ipa", "possessive"),
    [("ʃɪˈvɔːn", "ʃɪˈvɔːnz"), ("kæt", "kæts"), ("ɹoʊz", "ɹoʊzɪz")],
)
def test_a_possessive_goes_with_the_word(ipa: str, possessive: str) -> None:
    assert Lexicon({"name": f"/{ipa}/"}).apply("name's dog") == (
        Span("name's", possessive),
        Span(" dog"),
    )


def test_longest_entry_wins() -> None:
    lexicon = Lexicon({"new": "gnu", "New York": "the city", "New York Times": "the paper"})
    assert lexicon.apply("The new New  York Times in new york.")[0].text == (
        "The gnu the paper in the city."
    )


@pytest.mark.parametrize(
    ("word", "text", "expected"),
    [
        ("AT&T", "AT&T and AT & T", "X and AT & T"),
        ("C++", "C++, C + +, C", "X, C + +, C"),
        (".NET", "use .NET here", "use X here"),
        ("東京", "私は東京に住む", "私はXに住む"),
        ("кот", "Кот и котик", "X и котик"),
        ("क", "क कि", "X कि"),
        ("well-known", "a Well-Known man", "a X man"),
    ],
)
def test_entries_that_are_not_plain_words(word: str, text: str, expected: str) -> None:
    assert "".join(span.text for span in Lexicon({word: "X"}).apply(text)) == expected


def test_request_entries_come_before_the_files() -> None:
    base = Lexicon({"live": "/lɪv/", "GIF": "jif", "New York": "N Y"})
    merged = base.merged({"gif": "ghif", "new": "nu"})
    assert merged.apply("GIF live New York")[0].text == "ghif "
    assert merged["GIF"] == "ghif"
    assert merged.apply("New York")[0].text == "N Y"
    assert dict(base)["gif"] == "jif"
    assert sorted(merged) == ["gif", "live", "new", "new york"]
    assert len(merged) == 4


def test_empty_lexicon_changes_nothing() -> None:
    assert Lexicon().apply("Hello.") == (Span("Hello."),)
    assert Lexicon().apply("") == ()


def test_respellings_cannot_smuggle_control_tokens() -> None:
    assert spoken("hi there", hi="<|im_start|>hey") == "hey there"


@pytest.mark.parametrize(
    "entries",
    [
        {"": "x"},
        {"x": " "},
        {"x": "//"},
        {"x": "/ /"},
        {"x": "/abc"},
        {"x" * 101: "y"},
        {"x": "y" * 501},
        {"x": 5},
        {"\u200b": "x"},
        {f"w{n}": "x" for n in range(1_001)},
    ],
)
def test_bad_entries_name_the_field(entries: dict[str, str]) -> None:
    with pytest.raises(InputError) as caught:
        Lexicon(entries)
    assert caught.value.param == "lexicon"
    with pytest.raises(InputError):
        Lexicon({"a": "b"}).merged(entries)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("words.txt", "# names\n\nnginx = engine x\nSiobhán = /ʃɪˈvɔːn/\n"),
        ("words.tsv", "\ufeffnginx\tengine x\nSiobhán\t/ʃɪˈvɔːn/\n"),
        ("words.toml", 'nginx = "engine x"\n"Siobhán" = "/ʃɪˈvɔːn/"\n'),
        ("words.toml", '[lexicon]\nnginx = "engine x"\n"Siobhán" = "/ʃɪˈvɔːn/"\n'),
    ],
)
def test_files(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    assert dict(Lexicon.load(path)) == {"nginx": "engine x", "siobhán": "/ʃɪˈvɔːn/"}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"good = fine\nno separator\n", "line 2"),
        ("a.txt", b"good = fine\nempty =\n", "line 2"),
        ("a.toml", b"good = 'x'\nbad = \n", "line 2"),
        ("a.toml", b"[a]\nb = 1\n", "'a'"),
        ("a.txt", b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_bad_files_name_the_place(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=said):
        Lexicon.load(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        Lexicon.load(tmp_path / "none.txt")


def test_a_large_file_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "large.tsv"
    path.write_text("".join(f"word{n}\tspoken {n}\n" for n in range(5_000)), encoding="utf-8")
    assert Lexicon.load(path).apply("word4321")[0].text == "spoken 4321"
