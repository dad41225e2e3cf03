from __future__ import annotations

from pathlib import Path

import pytest

from vivavoce.bench.texts import BUILT_IN, SURNAMES, TextSource, invented_surname, read_texts
from vivavoce.errors import SettingsError


def take(source: TextSource, count: int) -> list[str]:
    return [source.next() for _ in range(count)]


def test_every_text_is_new() -> None:
    texts = take(TextSource(salt=1), 2000)
    assert len(set(texts)) == 2000
    assert not any("{" in text for text in texts)


def test_two_runs_share_hardly_any_text() -> None:
    first, second = take(TextSource(salt=1), 500), take(TextSource(salt=2), 500)
    assert len(set(first) & set(second)) <= 3


def test_a_text_without_a_placeholder_is_made_new_from_its_start() -> None:
    texts = take(TextSource(["We are open."], salt=1), 50)
    assert len(set(texts)) == 50
    assert all(text.endswith(", We are open.") for text in texts)


def test_repeated_texts_stay_as_they_are() -> None:
    assert take(TextSource(["We are open."], repeat=True), 2) == ["We are open."] * 2
    repeated = take(TextSource(["Hello {name}."], repeat=True), 2)
    assert repeated[0] == repeated[1]


def test_every_text_of_a_set_gets_its_turn() -> None:
    texts = take(TextSource([f"number {n}" for n in range(7)], repeat=True), 7)
    assert len(set(texts)) == 7


def test_surnames_are_distinct() -> None:
    assert len({invented_surname(number) for number in range(SURNAMES)}) == SURNAMES


def test_kinds_are_as_long_as_they_say() -> None:
    def lengths(kind: str) -> list[int]:
        return [len(t) for t in take(TextSource(BUILT_IN[kind], salt=3), 200)]  # type: ignore[index]

    assert all(len(t.split()) == 2 for t in take(TextSource(BUILT_IN["two_words"], salt=3), 60))
    assert max(lengths("short")) < 60
    assert min(lengths("medium")) >= 60 and max(lengths("medium")) < 110
    assert min(lengths("long")) >= 130 and max(lengths("long")) <= 250


def test_a_file_gives_one_text_a_line(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("# for tests\nOne.\n\n  Two.\n", encoding="utf-8")
    assert read_texts(path) == ["One.", "Two."]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", None])
def test_a_file_without_texts_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "texts.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError):
        read_texts(path)
