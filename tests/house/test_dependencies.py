"""No floor of a dependency admits a version with a known advisory, and every pin is above them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]

FIXED = {
    "fastapi": ("0.109.1", "CVE-2024-24762"),
    "h11": ("0.16.0", "CVE-2025-43859"),
    "onnx": ("1.21.0", "CVE-2026-27489"),
    "pydantic": ("2.4.0", "CVE-2024-3772"),
    "python-multipart": ("0.0.27", "CVE-2026-40347, CVE-2026-42561"),
    "starlette": ("0.49.1", "CVE-2025-54121, CVE-2025-62727"),
    "torch": ("2.8.0", "CVE-2025-32434, CVE-2025-2953, CVE-2025-3730"),
    # 0.50 to 0.52.2 let a WebSocket client that never reads fill the server's memory.
    "uvicorn": ("0.52.3", "unbounded writes"),
}
"""The first version without what is named."""


def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [each for extra in project["optional-dependencies"].values() for each in extra]
    return [Requirement(each) for each in [*project["dependencies"], *extras]]


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {name: Version(version) for name, version in found}


def lowest(requirement: Requirement) -> Version:
    floors = [
        Version(each.version) for each in requirement.specifier if each.operator in ("==", ">=")
    ]
    assert floors, f"{requirement} has no floor"
    return max(floors)


@pytest.mark.parametrize("name", FIXED)
def test_the_floor_is_above_the_advisory(name: str) -> None:
    fixed, why = FIXED[name]
    found = [each for each in requirements() if each.name == name]
    assert found, f"{name} is required by nothing any more"
    assert all(lowest(each) >= Version(fixed) for each in found), why


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_what_is_pinned_is_what_is_allowed(requirement: Requirement) -> None:
    name = re.sub(r"[-_.]+", "-", requirement.name).lower()
    assert name in pins(), f"{name} is not pinned"
    assert requirement.specifier.contains(pins()[name])


def test_every_requirement_has_a_floor() -> None:
    assert all(lowest(each) for each in requirements())
