"""The error tree drawn in the docstring is the real one."""

from __future__ import annotations

import inspect
import re

from vivavoce import errors
from vivavoce.errors import VivavoceError

LINE = re.compile(r"^ {4}([│ ]*)(?:[├└]── )?([A-Z]\w+)(?: +(\d{3}))?", re.MULTILINE)


def drawn() -> dict[str, tuple[str, int | None]]:
    """Each drawn class's parent and status."""
    found: dict[str, tuple[str, int | None]] = {}
    above: dict[int, str] = {}
    for indent, name, status in LINE.findall(errors.__doc__ or ""):
        depth = 0 if name == "VivavoceError" else len(indent) // 4 + 1
        above[depth] = name
        found[name] = (above.get(depth - 1, "Exception"), int(status) if status else None)
    return found


def real() -> dict[str, type[VivavoceError]]:
    classes = inspect.getmembers(errors, inspect.isclass)
    return {name: kind for name, kind in classes if issubclass(kind, VivavoceError)}


def test_the_tree_is_drawn_whole() -> None:
    assert drawn().keys() == real().keys()
    parents = {name: kind.__mro__[1].__name__ for name, kind in real().items()}
    assert {name: parent for name, (parent, _) in drawn().items()} == parents


def test_the_statuses_are_true() -> None:
    statuses = {name: status for name, (_, status) in drawn().items() if status is not None}
    assert statuses == {name: real()[name].status for name in statuses}
    assert len(statuses) == len(real()) - 1


def test_codes_name_one_class_each() -> None:
    """Storage that is full has one: for a while (503), or until somebody makes room (507)."""
    codes = [
        kind.code if kind.code != "storage_full" else f"{kind.code} {kind.status}"
        for kind in real().values()
    ]
    assert len(codes) == len(set(codes))


def test_only_what_may_pass_later_is_retryable() -> None:
    assert {kind.status for kind in real().values() if kind.retryable} == {429, 500, 503, 504}
    assert not any(kind.retryable for kind in real().values() if 400 <= kind.status < 429)
