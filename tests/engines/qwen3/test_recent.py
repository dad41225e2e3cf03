from __future__ import annotations

from vivavoce.engines.qwen3.recent import Recent


def test_the_last_used_are_kept() -> None:
    made: list[str] = []

    def ask(key: str) -> str:
        return recent.get(key, lambda: made.append(key) or key.upper())  # type: ignore[func-returns-value]

    recent: Recent[str, str] = Recent(2)
    assert [ask(key) for key in "abab"] == ["A", "B", "A", "B"]
    ask("a")
    ask("c")  # drops b
    ask("a")
    ask("b")
    assert made == ["a", "b", "c", "b"]


def test_what_could_not_be_made_is_not_kept() -> None:
    recent: Recent[int, int] = Recent(2)
    for _ in range(2):
        try:
            recent.get(1, lambda: 1 // 0)
        except ZeroDivisionError:
            continue
        raise AssertionError("it was kept")
