from __future__ import annotations

from vivavoce.runtime.lru_cache import LRUCache


def test_the_last_used_are_kept() -> None:
    made: list[str] = []

    def ask(key: str) -> str:
        return recent.get(key, lambda: made.append(key) or key.upper())  # type: ignore[func-returns-value]

    recent: LRUCache[str, str] = LRUCache(2)
    assert [ask(key) for key in "abab"] == ["A", "B", "A", "B"]
    ask("a")
    ask("c")  # drops b
    ask("a")
    ask("b")
    assert made == ["a", "b", "c", "b"]


def test_what_could_not_be_made_is_not_kept() -> None:
    recent: LRUCache[int, int] = LRUCache(2)
    for _ in range(2):
        try:
            recent.get(1, lambda: 1 // 0)
        except ZeroDivisionError:
            continue
        raise AssertionError("it was kept")


def test_no_more_is_kept_than_there_is_room_for() -> None:
    made: list[str] = []

    def ask(key: str) -> str:
        return recent.get(key, lambda: made.append(key) or key)  # type: ignore[func-returns-value]

    recent: LRUCache[str, str] = LRUCache(9, 5, len)
    for key in ("aa", "bb", "aa", "ccc"):  # the last drops "bb"
        ask(key)
    assert recent.held == 5
    assert [ask("too large"), ask("too large")] == ["too large"] * 2
    assert recent.held == 5
    ask("aa")
    ask("bb")
    assert made == ["aa", "bb", "ccc", "too large", "too large", "bb"]
    assert recent.held == 4
