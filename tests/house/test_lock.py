"""``uv.lock`` holds what ``pyproject.toml`` asks for, and all that is exported from it agrees."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]
LOCK = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LEFT_OPEN = re.compile(r"cuda-|nvidia-|setuptools|triton")
"""What PyTorch for CUDA brings, and a machine without a GPU does not install."""
HOSTS = {"https://pypi.org/simple", "https://files.pythonhosted.org"}
PIN = re.compile(r"^([\w.-]+)==([\w.+-]+)", re.MULTILINE)


def locked() -> dict[str, list[dict[str, Any]]]:
    """Packages by name; one may have several versions, for different Pythons."""
    found: dict[str, list[dict[str, Any]]] = {}
    for package in LOCK["package"]:
        found.setdefault(package["name"], []).append(package)
    return found


def own() -> dict[str, Any]:
    """This project, as the lock file has it."""
    return locked()["vivavoce"][0]


def needed_by(wanted: Iterable[dict[str, Any]]) -> set[tuple[str, str]]:
    """All that a list of dependencies brings, on whichever system."""
    packages, found, done = locked(), set(), set()
    waiting = [(each["name"], extra) for each in wanted for extra in (None, *each.get("extra", []))]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in done:
            continue
        done.add((name, extra))
        for package in packages[name]:
            found.add((name, package["version"]))
            brought = package.get("dependencies", [])
            if extra is not None:
                brought = package.get("optional-dependencies", {}).get(extra, [])
            waiting += [
                (each["name"], more) for each in brought for more in (None, *each.get("extra", []))
            ]
    return found


def pins(path: str) -> set[tuple[str, str]]:
    return set(PIN.findall((ROOT / path).read_text(encoding="utf-8")))


def test_constraints_are_what_is_locked() -> None:
    extras = own()["optional-dependencies"].values()
    wanted = [*own()["dependencies"], *(each for extra in extras for each in extra)]
    held = {(name, version) for name, version in needed_by(wanted) if not LEFT_OPEN.match(name)}
    assert pins("constraints.txt") == held, "just export"


@pytest.mark.parametrize(
    ("path", "group"),
    [("docs/requirements.txt", "docs"), (".ci/release-requirements.txt", "release")],
)
def test_requirements_of_a_group_are_what_is_locked(path: str, group: str) -> None:
    assert pins(path) == needed_by(own()["dev-dependencies"][group]), "just export"


def test_the_lock_was_made_from_this_pyproject() -> None:
    project = PROJECT["project"]
    asked = {told(Requirement(each), None) for each in project["dependencies"]}
    for extra, requirements in project["optional-dependencies"].items():
        asked |= {told(Requirement(each), extra) for each in requirements}
    assert set(map(told_in_the_lock, own()["metadata"]["requires-dist"])) == asked, "just export"
    assert own()["version"] == project["version"]
    for group, requirements in PROJECT["dependency-groups"].items():
        known = {told_in_the_lock(each) for each in own()["metadata"]["requires-dev"][group]}
        assert known == {told(Requirement(each), None) for each in requirements}, group


Told = tuple[str, frozenset[str], SpecifierSet, str | None]


def told(requirement: Requirement, extra: str | None) -> Told:
    return requirement.name, frozenset(requirement.extras), requirement.specifier, extra


def told_in_the_lock(entry: dict[str, Any]) -> Told:
    extra = re.fullmatch(r"extra == '([\w-]+)'", entry.get("marker", ""))
    versions = SpecifierSet(entry.get("specifier", ""))
    return entry["name"], frozenset(entry.get("extras", [])), versions, extra[1] if extra else None


def test_everything_comes_from_the_public_index() -> None:
    text = (ROOT / "uv.lock").read_text(encoding="utf-8")
    sources = {each["source"].get("registry", "") for each in LOCK["package"]} - {""}
    files = {re.match(r"https?://[^/]+", url)[0] for url in re.findall(r'url = "([^"]+)"', text)}
    assert sources | files == HOSTS
