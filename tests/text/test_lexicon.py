from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from vivavoce.errors import InputError, SettingsError
from vivavoce.text.lexicon import MAX_FILE_ENTRIES, Lexicon, check_count, entries_digest
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


@cache
def many(start: str) -> Lexicon:
    words = {f"{start} {number}": f"spoken {number}" for number in range(MAX_FILE_ENTRIES)}
    return Lexicon(words, max_entries=MAX_FILE_ENTRIES)


def seconds(work: Callable[[], object]) -> float:
    """The quickest of some runs."""
    best = float("inf")
    for _ in range(20):
        began_s = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began_s)
    return best


@pytest.mark.parametrize("start", ["word", ""])
def test_a_hundred_thousand_entries_cost_a_text_what_one_costs(start: str) -> None:
    """Also where all of them begin with the same word. A tenth of a millisecond against hours."""
    large, small = many(start), Lexicon({f"{start} 7": "spoken 7", "other": "one"})
    text = "word 7 and word 99999 and a word of another kind. " * 5
    assert "spoken 7 and" in large.apply(text)[0].text
    assert seconds(lambda: large.apply(text)) < 20 * seconds(lambda: small.apply(text)) + 1e-3


def test_merging_copies_nothing() -> None:
    large, small = many("word"), Lexicon({"word 7": "spoken 7"})
    own = {"word 9": "mine", "and": "und"}
    merged = large.merged(own)
    assert merged["word 9"] == "mine"
    assert merged["word 10"] == "spoken 10"
    assert seconds(lambda: large.merged(own)) < 20 * seconds(lambda: small.merged(own)) + 1e-3
    assert seconds(lambda: merged.digest) < 1e-3


def test_a_digest_stands_for_the_entries_and_their_order_of_sources() -> None:
    one, two = {"a": "b", "c": "d"}, {"a": "x"}
    assert Lexicon(one).digest == Lexicon(dict(reversed(one.items()))).digest
    digests = {
        Lexicon().digest,
        Lexicon(one).digest,
        Lexicon(two).digest,
        Lexicon(one).merged(two).digest,
        Lexicon(two).merged(one).digest,
        Lexicon({"a": "b", "c": "e"}).digest,
        Lexicon({"ab": "c"}).digest,
        Lexicon({"a": "bc"}).digest,
    }
    assert len(digests) == 8
    assert {len(digest) for digest in digests} == {32}
    assert Lexicon(one).merged({}).digest == Lexicon(one).digest


def test_entries_are_digested_as_they_are_written() -> None:
    assert entries_digest({"a": "b", "c": "d"}) == entries_digest({"c": "d", "a": "b"})
    assert entries_digest({"a": "b"}) != entries_digest({"a": "c"})
    assert entries_digest({"\ud800": "x"}) != entries_digest({"?": "x"})
    assert entries_digest(Lexicon({"a": "b"})) == Lexicon({"a": "b"}).digest
    for wrong in ({"a": 5}, {5: "a"}, {"a": ["b"]}):
        with pytest.raises(InputError) as caught:
            entries_digest(wrong)  # type: ignore[arg-type]
        assert caught.value.param == "lexicon"


def test_the_growth_is_that_of_the_worst_entry() -> None:
    assert Lexicon().growth == 1.0
    assert Lexicon({"ab": "x", "abc": "y" * 12}).growth == 4.0
    assert Lexicon({"abcd": "x"}).growth == 1.0
    assert Lexicon({"a": "777"}).growth > 20, "digits are spoken out, too"
    assert Lexicon({"a": "bb"}).merged({"c": "ddd"}).growth == 3.0


def test_too_many_entries_are_refused_before_they_are_read() -> None:
    check_count({str(number): "x" for number in range(1_000)})
    with pytest.raises(InputError) as caught:
        check_count({str(number): "x" for number in range(1_001)})
    assert caught.value.param == "lexicon"
    check_count(many("word"))
