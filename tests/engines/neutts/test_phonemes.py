"""Phonemes as ``phonemizer`` 3.4 gives them with espeak-ng 1.52, recorded from it."""

from __future__ import annotations

import pytest

pytest.importorskip("piper", reason="the extra 'neutts' is not installed")

from vivavoce.engines.neutts.phonemes import phonemes
from vivavoce.errors import InputError

RECORDED = [
    ("en", "My name is Andy. I'm 25", "maɪ nˈeɪm ɪz ˈændi. aɪm twˈɛnti fˈaɪv"),
    ("en", "Hello, world! How—are you (really)?", "həlˈoʊ, wˈɜːld! hˈaʊ—ɑːɹ juː (ɹˈiəli)?"),
    ("en", "Wait… what?", "wˈeɪt… wˌʌt?"),
    ("en", '"Quoted," he said; then: left.', '"kwˈoʊɾᵻd," hiː sˈɛd; ðˈɛn: lˈɛft.'),
    ("en", "She said “hello” and left.", "ʃiː sˈɛd “həlˈoʊ” ænd lˈɛft."),
    ("en", "  leading space and trailing  ", "lˈiːdɪŋ spˈeɪs ænd tɹˈeɪlɪŋ"),
    ("en", "state-of-the-art", "stˈeɪɾʌvðɪˈɑːɹt"),
    ("en", "a,b.c", "ˈeɪ,bˈiː.sˈiː"),
    ("en", "Hello,,, there!!!", "həlˈoʊ,,, ðˈɛɹ!!!"),
    ("en", "end .", "ˈɛnd ."),
    ("en", "¿Qué? ¡no!", "¿kwˈeɪ? ¡nˈoʊ!"),
    ("en", "line one\nline two", "lˈaɪn wˈʌn lˈaɪn tˈuː"),
    ("en", "that's 5 o'clock", "ðæts fˈaɪv əklˈɑːk"),
    ("de", "Guten Morgen, ich habe ein Meeting im Büro.",
     "ɡˈuːtən mˈɔɾɡən, ɪç hɑːbə aɪn mˈeːtɪŋ ɪm bˈyːroː."),
    ("de", "Die Straße ist groß und schön?", "diː ʃtɾˈɑːsə ɪst ɡɾˈoːs ʊnt ʃˈøːn?"),
    ("de", "Zwanzig Prozent; mehr nicht.", "tsvˈantsɪç pɾoːtsˈɛnt; mˈeːɾ nˈɪçt."),
    ("fr", "Bonjour, est-ce que vous allez bien aujourd'hui?",
     "bɔ̃ʒˈuʁ, ɛs kə vuz alˈe bjˈɛ̃n oʒuʁdyˈi?"),
    ("fr", "Qu'est-ce que c'est le weekend meeting", "kɛskˌə sɛ lə wiːkˈɛnd mˈiːtɪŋ"),
    ("fr", "Les enfants ont appris l'anglais.", "lez ɑ̃fˈɑ̃z ˈɔ̃t apʁˈi lɑ̃ɡlˈɛ."),
    ("es", "¿Cómo estás? ¡Muy bien!", "¿kˈomo estˈas? ¡mˈuj βjˈen!"),
    ("es", "El niño comió una manzana, y luego se fue.",
     "el nˈiɲo komjˈo ˈuna manθˈana, i luˈeɣo se fwˈe."),
]  # fmt: skip


@pytest.mark.parametrize(("language", "text", "expected"), RECORDED)
def test_as_recorded(language: str, text: str, expected: str) -> None:
    assert phonemes(text, language) == expected


@pytest.mark.parametrize("text", ["", " ", "...", "?", "-", "'", "(", "\x00\ud800"])
def test_nothing_to_say_is_nothing(text: str) -> None:
    assert phonemes(text, "en") == ""


def test_controls_and_lone_surrogates_do_no_harm() -> None:
    assert phonemes("He\x00llo\ud800 there\x1b", "en") == phonemes("Hello there", "en")


def test_a_language_without_a_voice_is_refused() -> None:
    with pytest.raises(InputError, match="'ja'"):
        phonemes("Hello", "ja")


def test_two_languages_in_turn_do_not_disturb_each_other() -> None:
    english = phonemes("Turn by turn", "en")
    phonemes("Der Reihe nach", "de")
    phonemes.cache_clear()
    assert phonemes("Turn by turn", "en") == english
