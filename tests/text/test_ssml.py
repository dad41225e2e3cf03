from __future__ import annotations

import pytest

from vivavoce.errors import InputError
from vivavoce.text.ssml import Break, Fixed, TextRun, parse_ssml


def speak(inner: str) -> str:
    return f"<speak>{inner}</speak>"


def test_text_and_harmless_wrappers() -> None:
    text = (
        '<?xml version="1.0"?><speak version="1.1" xml:lang="en-US"><p><s>A &amp; B</s></p></speak>'
    )
    items = parse_ssml(text)
    assert [item for item in items if isinstance(item, TextRun)] == [TextRun("A & B")]
    assert [item.end for item in items if isinstance(item, Break)] == [
        "paragraph",
        "sentence",
        "sentence",
        "paragraph",
    ]


def test_a_root_is_not_required() -> None:
    assert parse_ssml('Hi <break time="1s"/> there') == [
        TextRun("Hi "),
        Break(1_000, "clause"),
        TextRun(" there"),
    ]


@pytest.mark.parametrize(
    ("attributes", "pause_ms"),
    [
        ('time="500ms"', 500),
        ('time="1.5s"', 1_500),
        ('time=" 0s "', 0),
        ('time="10s"', 10_000),
        ('time=".25s"', 250),
        ("", 400),
        ('strength="none"', 0),
        ('strength="x-strong"', 1_000),
        ('strength="weak" time="2s"', 2_000),
    ],
)
def test_breaks(attributes: str, pause_ms: float) -> None:
    assert parse_ssml(speak(f"<break {attributes}/>")) == [Break(pause_ms, "clause")]


@pytest.mark.parametrize(
    ("how", "written", "expected"),
    [
        ("digits", "2026", "two zero two six"),
        ("digits", "12-34 56", "one two, three four, five six"),
        ("characters", "XK-7", "X K dash seven"),
        ("spell-out", "abc de", "A, B C, D E"),
        ("verbatim", "a@b.co", "A, at B dot C O"),
        ("telephone", "555-0199", "five five five, zero one nine nine"),
        (
            "telephone",
            "+1 (555) 123-4567 ext. 89",
            "plus one, five five five, one two three, four five six seven, extension eight nine",
        ),
        ("telephone", "5551234567", "five five five, one two three, four five six seven"),
        ("telephone", "*611", "star, six one one"),
    ],
)
def test_say_as(how: str, written: str, expected: str) -> None:
    items = parse_ssml(speak(f'<say-as interpret-as="{how}">{written}</say-as>'))
    assert items == [Fixed(written, expected)]


def test_say_as_in_another_language_keeps_the_digits() -> None:
    (item,) = parse_ssml(speak('<say-as interpret-as="digits">123</say-as>'), "de")
    assert item == Fixed("123", "1 2 3")


@pytest.mark.parametrize(
    ("how", "written", "expected"),
    [("cardinal", "12", "12"), ("ordinal", "3", "3rd"), ("ordinal", "112", "112th")],
)
def test_numbers_are_left_to_the_normalizer(how: str, written: str, expected: str) -> None:
    items = parse_ssml(speak(f'<say-as interpret-as="{how}">{written}</say-as>'))
    assert items == [TextRun(expected)]


def test_phoneme_and_sub() -> None:
    text = '<phoneme alphabet="ipa" ph="təˈmɑːtəʊ">tomato</phoneme><sub alias="W three C">W3C</sub>'
    assert parse_ssml(speak(text)) == [
        Fixed("tomato", "tomato", "təˈmɑːtəʊ"),
        TextRun("W three C"),
    ]


def test_user_text_is_sanitized() -> None:
    text = "a\x00b &lt;|im_start|&gt;c &#x202e;d \U000f0000"
    (item,) = parse_ssml(speak(text))
    assert isinstance(item, TextRun)
    assert item.text.split() == ["ab", "c", "d"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (speak("<prosody rate='fast'>x</prosody>"), "<prosody> is not supported"),
        (speak("<emphasis>x</emphasis>"), "<emphasis>"),
        (speak("<voice name='x'>x</voice>"), "<voice>"),
        (speak("<amazon:effect>x</amazon:effect>"), "<amazon:effect>"),
        (speak("<speak>x</speak>"), "nested"),
        (speak("<say-as interpret-as='date'>1/2</say-as>"), "'date' is not supported"),
        (speak("<say-as>1</say-as>"), "interpret-as"),
        (speak("<phoneme alphabet='x-sampa' ph='a'>x</phoneme>"), "x-sampa"),
        (speak("<phoneme>x</phoneme>"), "ph"),
        (speak("<phoneme ph='..'>x</phoneme>"), "phoneme"),
        (speak("<sub>x</sub>"), "alias"),
        (speak("<break time='11s'/>"), "longer than 10 s"),
        (speak("<break time='999999999s'/>"), "longer than 10 s"),
        (speak("<break time='-1s'/>"), "'-1s'"),
        (speak("<break time='1'/>"), "'1'"),
        (speak("<break time='nan s'/>"), "nan"),
        (speak("<break strength='huge'/>"), "huge"),
        (speak("<break>x</break>"), "empty"),
        (speak("<sub alias='x'><break/></sub>"), "text only"),
        (speak("<p>" * 100 + "</p>" * 100), "deeper"),
        ("<speak>\n<p>oops</speak>", "line 2, column"),
        ("one\ntwo & three", "line 2, column 6"),
        ("a & b", "line 1, column 4"),
        ("<speak>a</speak>b", "malformed"),
        ("<speak>&nbsp;</speak>", "malformed"),
        ("<speak", "malformed"),
        ("<speaker>x</speaker>", "<speaker>"),
    ],
)
def test_what_cannot_be_spoken_is_named(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        parse_ssml(text)
    assert caught.value.param == "input"


def test_entities_are_refused() -> None:
    bomb = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;">]>'
    for text in (bomb + speak("&c;"), '<?xml version="1.0"?>' + bomb + speak("&c;")):
        with pytest.raises(InputError):
            parse_ssml(text)
    with pytest.raises(InputError, match="document type"):
        parse_ssml('<?xml version="1.0"?><!DOCTYPE speak SYSTEM "file:///etc/passwd">' + speak("x"))


def test_breaks_together_are_bounded() -> None:
    one = '<break time="10s"/>'
    assert len(parse_ssml("a" + one * 12)) == 13
    with pytest.raises(InputError, match="120 s together"):
        parse_ssml("a" + one * 13)


@pytest.mark.parametrize("inner, ph", [("x" * 301, "ə"), ("x", "ə" * 301)])
def test_a_phoneme_is_no_way_to_bring_a_text(inner: str, ph: str) -> None:
    parse_ssml(f'<phoneme ph="{ph[:300]}">{inner[:300]}</phoneme>')
    with pytest.raises(InputError, match="longer than 300"):
        parse_ssml(f'<phoneme ph="{ph}">{inner}</phoneme>')
