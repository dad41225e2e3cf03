from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_one_clause_a_line_as_spoken(vivavoce: Callable[..., Any]) -> None:
    ran = vivavoce("text", "Dr. Smith owes $5. He pays tomorrow.")
    assert ran.status == 0
    assert ran.out.splitlines() == ["Doctor Smith owes five dollars.", "He pays tomorrow."]


def test_without_normalization(vivavoce: Callable[..., Any]) -> None:
    assert "$5" in vivavoce("text", "He owes $5.", "--no-normalize").out


def test_lexicon_and_stdin(vivavoce: Callable[..., Any], tmp_path: Path) -> None:
    lexicon = tmp_path / "words.txt"
    lexicon.write_text("nginx = engine x\nSiobhan = /ʃɪˈvɔːn/\n", encoding="utf-8")
    ran = vivavoce("text", "--lexicon", str(lexicon), stdin=b"Siobhan likes nginx.")
    assert ran.out == "/ʃɪˈvɔːn/ likes engine x.\n"


def test_ssml_with_pauses(vivavoce: Callable[..., Any]) -> None:
    ran = vivavoce("text", '<speak>Wait.<break time="300ms"/>Go.</speak>', "--ssml", "--pauses")
    assert ran.out.splitlines() == ["Wait.\t[sentence, pause 300 ms]", "Go.\t[sentence]"]


def test_nothing_to_speak(vivavoce: Callable[..., Any]) -> None:
    ran = vivavoce("text", "?!")
    assert ran.status == 2
    assert "nothing that can be spoken" in ran.err


def test_wrong_ssml(vivavoce: Callable[..., Any]) -> None:
    assert vivavoce("text", "<speak>Wait.", "--ssml").status == 2
