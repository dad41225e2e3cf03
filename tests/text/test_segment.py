from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vivavoce.text.segment import Piece, Segmenter


def segment(text: str, cuts: Sequence[int] = (), **options: object) -> list[Piece]:
    segmenter = Segmenter(**options)  # type: ignore[arg-type]
    bounds = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces: list[Piece] = []
    for start, stop in pairwise(bounds):
        pieces += segmenter.feed(text[start:stop])
    return pieces + segmenter.close()


def sentences(text: str, language: str | None = None) -> list[str]:
    return [piece.text for piece in segment(text, first_clause=False, language=language)]


# Each text is written with " | " where a new sentence starts.
ENGLISH = [
    "Hello there. | How are you?",
    "Dr. Smith is in. | He can see you.",
    "Mr. and Mrs. Jones met Prof. Lee. | They talked.",
    "I saw Ms. Hall, Gen. Grant and Sen. Webb.",
    "Pi is 3.14 or so. | Fine.",
    "The U.S. Army left. | Nobody noticed.",
    "He lives in the U.S. | He likes it.",
    "She moved to Washington, D.C. | There she stayed.",
    "Many fruits, e.g. apples, are sweet. | Some are not.",
    "Use a tool, i.e. Hammer or saw.",
    "Come at 9 a.m. tomorrow.",
    "Come at 9 a.m. Monday. | Bring food.",
    "We close at 5 p.m. | Please come early.",
    "We close at 5 p.m. Eastern time.",
    "Call before 10 a.m. PST. | Thanks.",
    "J. R. R. Tolkien wrote it. | We read it.",
    "George W. Bush spoke. | People listened.",
    "So do I. | We agree.",
    "This is plan B. | The first one failed.",
    "I. Newton saw an apple.",
    "Visit https://example.com/a.b?c=d.e today. | Then call.",
    "Visit www.example.com. | Then call.",
    "Write to jane.doe@mail.example.org. | She answers.",
    "Open report.final.pdf now.",
    "Version 2.0.1 is out. | Install it.",
    "At 3:30 p.m. we met.",
    "It costs $1,234.56. | That is a lot.",
    "Nov 21, 2026 is a Saturday. | Rest then.",
    "It was Nov. 3, 2026. | We voted.",
    "On Sat. Nov. 3 we met.",
    "The cat sat. | It slept.",
    "Wait... what?",
    "Well... I think so.",
    "He left... | Nobody knew why.",
    "She said… nothing.",
    "Really?! | No way!",
    "What?! | You did that??? | Wow!!!",
    '"Why?" he asked. | "Because," she said.',
    '"Go home." | She left.',
    "“Go home.” | She left.",
    "(He left.) | She stayed.",
    "He left (early!) and slept.",
    "He said 'no.' | Then he left.",
    "**Hello.** | Next one.",
    "It is so.[1] | Others disagree.[23] | End.",
    "Yahoo! is a company. | It is old.",
    "hello! | how are you? | i am fine.",
    "all small here. | nothing is capital. | ok.",
    "See fig. 3 and sec. 4.2. | Then stop.",
    "See Fig. 3. | It shows more.",
    "See vol. II and ch. IV of it.",
    "No. | I will not.",
    "See the fig. | In it you see more.",
    "He is No. 5 there.",
    "The answer is no. | Next question.",
    "We met at 12 Main St. | The shop was closed.",
    "We met at St. Mary's. | All were there.",
    "Acme Inc. announced it. | Shares rose.",
    "Acme Inc. Chairman Lee spoke.",
    "He works at Acme Inc. | He likes it.",
    "Apples, pears, etc. are fruit.",
    "Apples, pears, etc. | They are fruit.",
    "Smith et al. found it.",
    "John Smith Jr. | He is here.",
    "She has a Ph.D. in physics.",
    "She has a Ph.D. | She teaches.",
    "He is 6 ft. tall.",
    "It weighs approx. 5 lb. in all.",
    "Cats vs. Dogs is a game.",
    "I was born in 1990. | You were not.",
    "I have 3. | You have 4. | 5 are left.",
    "1. Buy milk.",
    "It is over. | 5 people left.",
    "The temperature is -3.5 degrees. | Cold!",
    "Mt. Everest is high. | Ft. Worth is not.",
    "Rev. King and Capt. Cook met Lt. Dan.",
    "It's 50%. | That's half.",
    "Hi. | Bye.",
    "A.I. is here. | We use it.",
    "Ask the dept. of health.",
    "I know that he is mid-Oct. born.",
    "Use .NET or Node.js now. | Both work.",
    "He paid 5 million. | ¿Qué? | ¡Sí!",
    "Look at this: | 😀 is a face.".replace(" | ", " "),
    "Great! | 😀 Next.",
    "Hello . . . is anyone there?",
    "Is it 5? | Is it 6?",
    "The U.K. and the E.U. signed. | Good.",
    "Mr. J. P. Morgan Jr. bought it. | He paid.",
    "That cost 5 p.m.-style money.",
    "End of line",
    "No space.Here goes on.",
]


@pytest.mark.parametrize("marked", ENGLISH)
def test_english_sentences(marked: str) -> None:
    expected = marked.split(" | ")
    assert sentences(" ".join(expected)) == expected


OTHERS = [
    ("de", "Herr Dr. Weber kam am 3. Oktober. | Er blieb bis 8 Uhr."),
    ("de", "Das gilt z.B. für Hunde bzw. Katzen. | Gut."),
    ("de", "Wir wohnen in der Hauptstr. 5 im Haus. | Bis dann."),
    ("fr", "M. Dupont est là. | Il attend Mme. Martin."),
    ("fr", "Vraiment ? | Oui !"),
    ("es", "El Sr. García vive en EE.UU. desde ayer. | ¿Lo sabe Ud. ya?"),
    ("it", "Il dott. Rossi è qui. | La sig.ra Bianchi no."),
    ("pt", "O Sr. Silva mora na av. Paulista. | Ele gosta."),
    ("nl", "Dhr. Jansen kwam o.a. met fruit. | Hij bleef."),
    ("ru", "Привет. | Как дела? | Хорошо!"),
    ("el", "Γεια σου. | Τι κάνεις;"),
    ("ar", "مرحبا. | كيف حالك؟ | أنا بخير."),
    ("hi", "नमस्ते। | आप कैसे हैं?"),
    ("ko", "안녕하세요. | 잘 지내세요?"),
]


@pytest.mark.parametrize(("language", "marked"), OTHERS)
def test_other_languages(language: str, marked: str) -> None:
    expected = marked.split(" | ")
    assert sentences(" ".join(expected), language) == expected


UNSPACED = [
    "今日は天気がいい。|散歩に行きましょう！|本当？",
    "「何ですか？」と彼は言った。|はい。",
    "你好。|“我很好。”|他走了！",
    "नमस्ते।|आप कैसे हैं?",
    "値は３．１４です。|はい。",
]


@pytest.mark.parametrize("marked", UNSPACED)
def test_sentences_without_spaces_between(marked: str) -> None:
    expected = marked.split("|")
    assert sentences("".join(expected), "ja") == expected


LINES = [
    ("First part.\n\nSecond part.", [("First part.", "paragraph"), ("Second part.", "sentence")]),
    ("A title\n\nText.", [("A title", "paragraph"), ("Text.", "sentence")]),
    ("One\r\n\r\nTwo", [("One", "paragraph"), ("Two", "sentence")]),
    ("a wrapped line that\ngoes on here.", [("a wrapped line that goes on here.", "sentence")]),
    ("We met Dr.\nSmith here.", [("We met Dr. Smith here.", "sentence")]),
    (
        "Buy:\n- milk\n- eggs and\n* bread",
        [
            ("Buy:", "sentence"),
            ("- milk", "sentence"),
            ("- eggs and", "sentence"),
            ("* bread", "sentence"),
        ],
    ),
    (
        "1. Open it\n2. Close it\n10) Done",
        [("1. Open it", "sentence"), ("2. Close it", "sentence"), ("10) Done", "sentence")],
    ),
    ("# Title\nsome text", [("# Title", "sentence"), ("some text", "sentence")]),
    ("Opening hours\nWe open.", [("Opening hours", "sentence"), ("We open.", "sentence")]),
    ("we went to the\nBig Apple", [("we went to the Big Apple", "sentence")]),
    ("***\n\nHello.", [("***", "paragraph"), ("Hello.", "sentence")]),
]


@pytest.mark.parametrize(("text", "expected"), LINES)
def test_lines_and_paragraphs(text: str, expected: list[tuple[str, str]]) -> None:
    pieces = [(piece.text, piece.end) for piece in segment(text, first_clause=False)]
    assert pieces == expected


FIRST = [
    "Thank you for calling Acme, | my name is Joe and I can help you today.",
    "I understand completely; | let me look that up for you now.",
    "Let me check that for you — | it will only take a moment.",
    "Well, to be honest with you, | I do not know the answer to that.",
    "Yes, of course. Next one.".replace(". ", ". | "),
    "Your visit is on November 3, 2026, | and it lasts about an hour.",
    "The population was 1,234,567 people, | which is a lot of people.",
    "He lives with John Smith, Jr. | He is happy.",
    "I would like that, thanks.",
    "Your total is $45.99, including tax. | Is that fine?",
    "Your total is about 50 dollars, | or 49.95 to be exact and fair.",
    "The meeting (which was long, boring and cold), | ended at five in the morning.",
    '"I really think so," | he said to the people around him.',
    "The train leaves at 10:45 from the main station.",
    "Your reservation for tomorrow evening is confirmed | and the table is by the window.",
]


@pytest.mark.parametrize("marked", FIRST)
def test_first_piece_may_end_at_a_clause_mark(marked: str) -> None:
    expected = marked.split(" | ")
    assert [piece.text for piece in segment(" ".join(expected))] == expected


def test_first_clause_of_unspaced_text() -> None:
    pieces = segment("こんにちは、お電話ありがとうございます、少々お待ちください。")
    assert [piece.text for piece in pieces] == [
        "こんにちは、",
        "お電話ありがとうございます、少々お待ちください。",
    ]


def test_only_the_first_piece_ends_early() -> None:
    text = (
        "Thank you very much, dear friend of mine, for calling. I like it here, as you know well."
    )
    pieces = segment(text)
    assert [piece.end for piece in pieces] == ["clause", "sentence", "sentence"]
    assert pieces[2].text == "I like it here, as you know well."


def test_first_piece_that_holds_no_word_does_not_count() -> None:
    pieces = segment("*** \n\nThank you for calling Acme, my name is Joe and I can help.")
    assert pieces[1] == Piece("Thank you for calling Acme,", "clause")


def test_long_first_sentence_without_marks_is_cut_at_a_space() -> None:
    pieces = segment("word " * 60)
    assert 80 <= len(pieces[0].text) <= 110
    assert pieces[0].end == "clause"


def test_long_sentences_are_cut_at_marks_then_spaces_then_anywhere() -> None:
    marks = segment("some words here, " * 40, first_clause=False)
    assert all(piece.text.endswith(",") and len(piece.text) <= 300 for piece in marks[:-1])
    spaces = segment("word " * 200, first_clause=False)
    assert all(piece.text.split() == ["word"] * len(piece.text.split()) for piece in spaces)
    digits = segment("7" * 10_000, first_clause=False)
    assert "".join(piece.text for piece in digits) == "7" * 10_000
    assert max(len(piece.text) for piece in digits) == 300


def test_cjk_without_marks_is_cut_sooner() -> None:
    assert {len(piece.text) for piece in segment("話" * 1_000)} == {100}


def test_a_hard_cut_keeps_marks_with_their_letter() -> None:
    pieces = segment("e\u0301" * 400, first_clause=False, max_chars=101)
    assert all(not piece.text.startswith("\u0301") for piece in pieces)


def test_close_makes_room_for_another_text() -> None:
    segmenter = Segmenter(first_clause=False)
    assert segmenter.feed("One. Two") == [Piece("One.", "sentence")]
    assert segmenter.close() == [Piece("Two", "sentence")]
    assert segmenter.feed("Three") + segmenter.close() == [Piece("Three", "sentence")]


def test_a_sentence_is_given_out_once_the_next_begins() -> None:
    segmenter = Segmenter()
    assert segmenter.feed("I am here. ") == []
    assert segmenter.feed("Y") == [Piece("I am here.", "sentence")]


FRAGMENTS = [
    *("Dr.", "U.S.", "e.g.", "a.m.", "J.", "3.14", "1,234", "Hello", "there", "I", "The", "no."),
    *("fig.", "etc.", "Inc.", "...", "…", "?!", "!", ".", ",", ";", ":", "—", "-", '"', "”", ")"),
    *("(", "[1]", "[", "\n", "\n\n", "\r\n", " ", "  ", "\xa0", "- item", "# Head", "2026", "No."),
    *("and", "with", "今日は", "。", "「", "」", "と", "、", "３", "é", "e\u0301", "😀", "\u200d"),
    *("www.a.b/c", "x@y.z", "word " * 20, "long" * 30, "話" * 40, "\U000f0000"),
]
TEXTS = st.one_of(
    st.text(max_size=100),
    st.lists(st.sampled_from(FRAGMENTS), max_size=30).map("".join),
    st.lists(st.sampled_from(FRAGMENTS), max_size=30).map(" ".join),
)


@settings(max_examples=150, deadline=None)
@example("FIG. IA", [], False, 60)
@example("0。[0]", [], False, 60)
@given(TEXTS, st.lists(st.integers(0, 400), max_size=20), st.booleans(), st.sampled_from([60, 300]))
def test_any_splitting_gives_the_same_pieces(
    text: str, cuts: list[int], first_clause: bool, max_chars: int
) -> None:
    whole = segment(text, first_clause=first_clause, max_chars=max_chars)
    assert segment(text, cuts, first_clause=first_clause, max_chars=max_chars) == whole
    singly = segment(text, range(len(text)), first_clause=first_clause, max_chars=max_chars)
    assert singly == whole


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.booleans())
def test_no_text_is_lost_and_no_piece_is_overlong(text: str, first_clause: bool) -> None:
    pieces = segment(text, first_clause=first_clause)
    assert "".join("".join(piece.text.split()) for piece in pieces) == "".join(text.split())
    assert all(piece.text.strip(" ") and len(piece.text) <= 340 for piece in pieces)


@pytest.mark.parametrize("unit", ["a", ".", ". ", "1,", "Dr. ", "\n-", "(\"'", "話", "word, "])
def test_work_per_character_does_not_grow_with_the_text(unit: str) -> None:
    """The buffer, and with it the work of one call, stays bounded however long the text is."""
    segmenter = Segmenter()
    for character in unit * (5_000 // len(unit)):
        segmenter.feed(character)
        assert len(segmenter._buffer) <= 340
