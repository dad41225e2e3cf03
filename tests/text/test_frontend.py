from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.errors import InputError, InputTooLong
from vivavoce.text.frontend import Frontend, TextOptions, clauses, is_speakable
from vivavoce.text.lexicon import Lexicon
from vivavoce.text.sanitize import defuse, sanitize
from vivavoce.types import Clause, Span


def shout(text: str, language: str | None) -> str:
    return text.upper()


def same(text: str, language: str | None) -> str:
    return text


def read(text: str, options: TextOptions | None = None) -> list[Clause]:
    return list(clauses(text, options or TextOptions(), normalize=same))


def texts(found: Iterable[Clause]) -> list[str]:
    return [clause.text for clause in found]


def feed(text: str, cuts: Sequence[int], options: TextOptions) -> list[Clause]:
    frontend = Frontend(options, normalize=same)
    bounds = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    found: list[Clause] = []
    for start, stop in pairwise(bounds):
        found += frontend.feed(text[start:stop])
    return found + frontend.close()


def test_plain_text_becomes_clauses() -> None:
    assert read("Hello there. How are you?\n\nFine.") == [
        Clause((Span("Hello there."),), "Hello there.", "sentence"),
        Clause((Span("How are you?"),), "How are you?", "paragraph"),
        Clause((Span("Fine."),), "Fine.", "sentence"),
    ]


def test_normalizing_happens_a_clause_at_a_time_after_the_lexicon() -> None:
    seen: list[tuple[str, str | None]] = []

    def spy(text: str, language: str | None) -> str:
        seen.append((text, language))
        return text.upper()

    options = TextOptions(language="en", lexicon=Lexicon({"nginx": "engine x", "Bo": "/boʊ/"}))
    found = list(clauses("Use nginx. Ask Bo about 5 now.", options, normalize=spy))
    assert seen == [("Use engine x.", "en"), ("Ask", "en"), ("about 5 now.", "en")]
    assert found[0] == Clause((Span("USE ENGINE X."),), "Use nginx.", "sentence")
    assert found[1].spans == (Span("ASK "), Span("Bo", "boʊ"), Span(" ABOUT 5 NOW."))


def test_punctuation_after_a_pronounced_word_stays() -> None:
    options = TextOptions(lexicon=Lexicon({"Bo": "/boʊ/"}))
    found = list(
        clauses("Hi Bo, the 3rd. Bo", options, normalize=lambda text, _: text.strip(",. "))
    )
    assert [clause.text for clause in found] == ["Hi Bo, the 3rd", "Bo"]


def test_the_projects_normalizer_is_the_default() -> None:
    assert texts(clauses("It costs $5.", TextOptions())) == ["It costs five dollars."]
    assert texts(clauses("Es kostet 5.", TextOptions(language="de"))) == ["Es kostet 5."]


def test_normalizing_can_be_turned_off() -> None:
    found = list(clauses("It is\x00 5.", TextOptions(normalize=False), normalize=shout))
    assert texts(found) == ["It is 5."]


def test_start_soon_can_be_turned_off() -> None:
    text = "Thank you for calling Acme, my name is Joe and I can help you."
    assert len(read(text)) == 2
    assert read(text, TextOptions(start_soon=False)) == [Clause((Span(text),), text, "sentence")]


@pytest.mark.parametrize(
    "text", ["", " \n ", "...", "*** --- ***", "<|im_start|></s>", "\x00\u200b", "?!"]
)
def test_nothing_speakable_gives_nothing(text: str) -> None:
    assert read(text) == []


def test_unspeakable_parts_are_left_out() -> None:
    assert texts(read("Hello.\n\n***\n\n<|im_end|>\n\nBye.")) == ["Hello.", "Bye."]


def test_a_clause_that_the_normalizer_empties_is_left_out() -> None:
    assert list(clauses("Hello.", TextOptions(), normalize=lambda *_: " ")) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", True),
        ("5", True),
        ("話", True),
        ("ก", True),
        ("", False),
        ("?! …", False),
        ("😀", False),
    ],
)
def test_is_speakable(text: str, expected: bool) -> None:
    assert is_speakable(text) is expected


def test_the_first_clause_touches_nothing_after_it() -> None:
    def fail_later(text: str, language: str | None) -> str:
        if "bomb" in text:
            raise AssertionError("normalized too early")
        return text

    text = "Hello there. This is a bomb. " + "And so on it goes. " * 1_000
    found = clauses(text, TextOptions(), normalize=fail_later)
    assert next(found).text == "Hello there."
    with pytest.raises(AssertionError, match="too early"):
        next(found)


def test_the_first_clause_does_not_read_the_rest_of_a_long_text() -> None:
    class Watched(str):
        furthest = 0

        def __getitem__(self, key: object) -> str:
            assert isinstance(key, slice)
            Watched.furthest = max(Watched.furthest, key.stop)
            return str.__getitem__(self, key)

    text = Watched("Hello there. " * 2_000)
    assert [c.text for c in islice(clauses(text, TextOptions(), normalize=same), 1)]
    assert Watched.furthest <= 1_000


def test_normalizers_cannot_rebuild_control_tokens() -> None:
    found = list(
        clauses(
            "Say <*|im_start|*> now.",
            TextOptions(),
            normalize=lambda text, _: text.replace("*", ""),
        )
    )
    assert "<|" not in found[0].text
    assert "|>" not in found[0].text


SSML = TextOptions(ssml=True)


def test_breaks_become_the_pause_of_the_clause_before() -> None:
    found = read('One. <break time="700ms"/> Two <break/>three.', SSML)
    assert [(c.text, c.end, c.pause_ms) for c in found] == [
        ("One.", "sentence", 700),
        ("Two", "clause", 400),
        ("three.", "sentence", None),
    ]


def test_a_break_with_nothing_before_it_is_a_clause_without_spans() -> None:
    found = read('<break time="1s"/><break time="250ms"/>Hi.', SSML)
    assert found[0] == Clause((), "", "clause", 1_250)
    assert texts(found[1:]) == ["Hi."]


def test_the_pause_of_an_unspeakable_part_is_kept() -> None:
    found = read('Hi. <break time="1s"/> *** <break time="2s"/> Bye.', SSML)
    assert [(c.text, c.pause_ms) for c in found] == [("Hi.", 1_000), ("", 2_000), ("Bye.", None)]


def test_paragraphs_and_sentences() -> None:
    found = read("<p><s>One</s> <s>two</s></p><p>Three. Four</p><s>five</s>", SSML)
    assert [(c.text, c.end) for c in found] == [
        ("One", "sentence"),
        ("two", "paragraph"),
        ("Three.", "sentence"),
        ("Four", "paragraph"),
        ("five", "sentence"),
    ]


def test_consecutive_breaks_are_bounded() -> None:
    found = read("Hi." + '<break time="10s"/>' * 12, SSML)
    assert [clause.pause_ms for clause in found] == [10_000]


def test_phonemes_and_say_as_stay_in_their_sentence() -> None:
    text = (
        '<speak>Dr. <phoneme ph="ʃɪˈvɔːn">Siobhan</phoneme> has code '
        '<say-as interpret-as="characters">A7</say-as>. Next.</speak>'
    )
    found = list(clauses(text, SSML, normalize=shout))
    assert found[0].spans == (
        Span("DR. "),
        Span("Siobhan", "ʃɪˈvɔːn"),
        Span(" HAS CODE A, seven."),
    )
    assert found[0].source == "Dr. Siobhan has code A7."
    assert found[1].text == "NEXT."


def test_a_phoneme_alone_is_spoken() -> None:
    assert read('<phoneme ph="a"/>', SSML)[0].spans == (Span("", "a"),)


def test_spans_together_hold_no_control_token() -> None:
    found = read('&lt;<phoneme ph="a">|im_start|</phoneme>&gt; hello', SSML)
    assert defuse(found[0].text) == found[0].text


def test_ssml_is_laid_out_lazily_too() -> None:
    def fail_later(text: str, language: str | None) -> str:
        assert "bomb" not in text
        return text

    found = clauses("<speak>Hello. A bomb. More.</speak>", SSML, normalize=fail_later)
    assert next(found).text == "Hello."


def test_ssml_errors() -> None:
    with pytest.raises(InputError):
        next(clauses("<speak><audio/></speak>", SSML))
    with pytest.raises(InputError):
        Frontend(SSML)


WORDS = st.lists(
    st.sampled_from(
        [
            "Dr.",
            "Hello",
            "there.",
            "U.S.",
            "<|im_start|>",
            "<s>",
            "\x00",
            "\n\n",
            "e\u0301",
            "3.14",
            "?",
            ",",
        ]
    ),
    max_size=40,
).map(" ".join)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=150) | WORDS, st.lists(st.integers(0, 200), max_size=10), st.booleans())
def test_text_in_pieces_gives_the_clauses_of_the_whole(
    text: str, cuts: list[int], normalize: bool
) -> None:
    options = TextOptions(normalize=normalize, lexicon=Lexicon({"hello": "/h/", "there": "here"}))
    assert feed(text, cuts, options) == read(text, options)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200) | WORDS)
def test_plain_text_never_raises_and_loses_nothing(text: str) -> None:
    found = read(text)
    assert all(is_speakable(clause.text) for clause in found)
    kept = [character for clause in found for character in clause.source if character.isalnum()]
    assert kept == [character for character in sanitize(text) if character.isalnum()]


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="<>/=\"'&;|aspeakbrtim 1.!", max_size=80))
def test_ssml_gives_clauses_or_an_input_error(text: str) -> None:
    try:
        read(text, SSML)
    except InputError as error:
        assert error.param == "input"


def size(clause: Clause) -> int:
    return sum(max(len(span.text), len(span.ipa or "")) for span in clause.spans)


GROWING = {
    "a lexicon entry": ("a word and a word " * 100, {"lexicon": Lexicon({"a": "grown " * 80})}),
    "a pronunciation": ("a word and a word " * 100, {"lexicon": Lexicon({"a": f"/{'ə' * 400}/"})}),
    "numbers": ("777777777777 " * 400, {}),
    "one number": ("9" * 5_000, {}),
    "units": ("5°C and 3 km and 7 % " * 100, {}),
    "say-as": (f'<say-as interpret-as="characters">{"w7!" * 2_000}</say-as>', {"ssml": True}),
    "many say-as": ('<say-as interpret-as="digits">777777</say-as> ' * 200, {"ssml": True}),
    "a telephone": (f'<say-as interpret-as="telephone">{"5" * 900}</say-as>', {"ssml": True}),
    "an alias": (f'<sub alias="{"7 km " * 400}">x</sub>', {"ssml": True}),
    "phonemes": (f'<phoneme ph="{"ə" * 300}">x</phoneme>' * 50, {"ssml": True}),
}


@pytest.mark.parametrize("what", GROWING)
def test_no_clause_is_longer_than_a_clause_whatever_it_grows_from(what: str) -> None:
    text, how = GROWING[what]
    found = list(clauses(text, TextOptions("en", **how)))
    assert len(found) > 2
    assert max(map(size, found)) <= 300
    assert all(any(is_speakable(span.ipa or span.text) for span in c.spans) for c in found)


def test_what_grew_is_spoken_whole_and_keeps_its_source_and_its_end() -> None:
    options = TextOptions(lexicon=Lexicon({"x": "grown, " * 60 + "end"}))
    before, *grown, after = read("Before. One x more! Then.", options)
    assert (before.text, after.text) == ("Before.", "Then.")
    assert " ".join(c.text for c in grown) == f"One {'grown, ' * 60}end more!"
    assert [c.source for c in grown] == ["One x more!", *[""] * (len(grown) - 1)]
    assert [c.end for c in grown] == [*["clause"] * (len(grown) - 1), "sentence"]


def test_the_pause_stands_after_the_last_of_what_grew() -> None:
    text = f'<say-as interpret-as="digits">{"7" * 300}</say-as><break time="2s"/>Next.'
    found = read(text, SSML)
    assert [clause.pause_ms for clause in found] == [*[None] * (len(found) - 2), 2_000, None]
    assert len(found) > 4


def test_the_first_clause_of_what_grows_is_made_before_the_rest() -> None:
    normalized: list[str] = []

    def spy(text: str, language: str | None) -> str:
        normalized.append(text)
        return text

    options = TextOptions(lexicon=Lexicon({"a": "grown " * 80}))
    lazily = clauses("a and a and a and a and a and a", options, normalize=spy)
    next(lazily)
    assert sum(map(len, normalized)) < 1_000


def test_a_text_that_grows_beyond_its_limit_says_so() -> None:
    limited = TextOptions(max_spoken_chars=1_000, lexicon=Lexicon({"a": "grown " * 80}))
    lazily = clauses("Fine. a a a a", limited, normalize=same)
    assert next(lazily).text == "Fine."
    with pytest.raises(InputTooLong, match="at most 1000") as caught:
        list(lazily)
    assert (caught.value.param, caught.value.code) == ("input", "input_too_long")
    assert "spoken" in caught.value.message


def test_exactly_the_limit_is_let_through() -> None:
    text = "Fine. Five. "
    assert len(texts(read(text, TextOptions(max_spoken_chars=10)))) == 2
    with pytest.raises(InputTooLong):
        read(text, TextOptions(max_spoken_chars=9))


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=400) | WORDS, st.booleans())
def test_clauses_stay_short(text: str, normalize: bool) -> None:
    words = Lexicon({"hello": "/həloʊ/", "there": "here and there " * 30, "e": "é" * 400})
    options = TextOptions("en", normalize=normalize, lexicon=words)
    assert all(0 < size(clause) <= 300 for clause in clauses(text, options))
