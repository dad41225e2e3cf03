"""No text ends the process in espeak-ng's own code, and what it dies of is refused alone."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vivavoce.errors import InputError, ModelFileError, WorkerDied
from vivavoce.runtime import espeak
from vivavoce.runtime.espeak import MAX_WORD_CHARS, speakable, spoken_clauses

pytest.importorskip("piper")

VOICES = ("en-us", "en", "de", "fr", "es", "ru", "ar", "cmn", "hi", "vi", "el", "ml", "tr")
SEED, MUTANTS = 20261130, 600
MOST_REFUSED = 0.02
PIECES = """
A. a. é. я. I. ж. ا. 日 ก. क्. മ. ß. Ⅷ. ½ ٠. 😀. 's n't 'd- U.S. e.g. i.e. Ph.D. A.B A-B a/b a&b
x.y.z 1. 1,000 1.1.1 v1. #1 @a $5 € % [[a <a> ... a_ a' ï. ﬁ. ﷺ a\u0301 a\u200d a\u00ad
""".split()  # noqa: SIM905
"""Pieces of which long words and endless initials are made."""


def texts(seed: int, count: int) -> Iterator[tuple[str, str]]:
    """Texts of up to 300 characters out of few kinds of pieces: long words, endless initials."""
    drawn = random.Random(seed)
    for piece in PIECES:
        yield drawn.choice(VOICES), (piece * 300)[:300]
    for _ in range(count):
        pieces = drawn.sample(PIECES, drawn.randint(1, 4)) + [" "] * drawn.randint(0, 1)
        length = drawn.randint(50, 300)
        yield drawn.choice(VOICES), "".join(drawn.choices(pieces, k=length))[:length]


def test_no_text_ends_the_process_and_nearly_all_are_spoken() -> None:
    refused = []
    for voice, text in texts(SEED, MUTANTS):
        try:
            spoken_clauses(speakable(text), voice)
        except InputError:
            refused.append((voice, text))
    assert len(refused) <= MOST_REFUSED * MUTANTS, refused
    assert spoken_clauses("Hello.", "en-us")[0].phonemes == "həlˈoʊ"


class Dead:
    """A worker that dies of everything."""

    def ask(self, request: bytes) -> bytes:
        raise WorkerDied("the process that did it crashed")


class DeadOnce(Dead):
    """A worker that was killed, or broken by another text."""

    def __init__(self) -> None:
        self.asked = 0

    def ask(self, request: bytes) -> bytes:
        self.asked += 1
        return super().ask(request) if self.asked == 1 else b'[["h", ".", true]]'


def test_a_text_is_not_refused_for_what_another_one_has_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(espeak, "_worker", DeadOnce())
    assert spoken_clauses("Hello.", "en-us") == [("h", ".", True)]


def test_what_espeak_dies_of_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeak, "_worker", Dead())
    with pytest.raises(InputError, match="cannot speak this text"):
        spoken_clauses("Hello.", "en-us")


def test_endless_initials_are_spoken() -> None:
    for text in ("A." * 150, "é." * 150, "'s" * 150, "a. " * 100, "U.S." * 75, "X ." * 100):
        assert spoken_clauses(speakable(text), "en-us")


def test_a_voice_that_is_not_there_is_named() -> None:
    with pytest.raises(ModelFileError, match="'xx-none'"):
        spoken_clauses("Hello.", "xx-none")


def test_espeak_runs_without_what_the_package_around_it_imports() -> None:
    """It would cost every server another 60 MB."""
    program = (
        "import sys; from vivavoce.runtime.espeak_child import load_bridge; load_bridge();"
        "print({'numpy', 'onnxruntime', 'piper'} & sys.modules.keys())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(Path(espeak.__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == "set()"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "It is ten.",
        "well-known facts, e.g. the U.S.A. and Ph.D.s",
        "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
        "1,234,567,890,123,456,789,012,345",
        "തിരുവനന്തപുരത്തുനിന്നുമായിരുന്നില്ലല്ലോ",
    ],
)
def test_what_people_write_stays_as_it_is(text: str) -> None:
    assert speakable(text) == text


def test_no_word_is_longer_than_espeak_holds() -> None:
    for text in ("x" * 900, "A." * 300, "https://a.b/" * 40):
        cut = speakable(text)
        assert cut.replace(" ", "").replace(".", "") == text.replace(".", "")
        assert max(map(len, cut.split())) <= MAX_WORD_CHARS
