"""``import vivavoce`` is light, and its public names are what they say."""

from __future__ import annotations

import subprocess
import sys

import vivavoce

HEAVY = ("numpy", "torch", "pydantic", "onnxruntime", "onnx", "fastapi", "av", "soxr", "piper")


def imported_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter has after a statement."""
    script = f"{statement}\nimport sys\nprint(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


def test_import_is_light() -> None:
    assert not imported_by("import vivavoce") & set(HEAVY)


def test_the_check_sees_a_heavy_import() -> None:
    assert "numpy" in imported_by("import vivavoce; vivavoce.Synthesizer")


def test_the_speech_service_needs_no_engine_library() -> None:
    loaded = imported_by("import vivavoce.speech.service, vivavoce.settings")
    assert not loaded & {"torch", "onnxruntime", "onnx", "piper", "fastapi"}


def test_all_is_sorted_and_complete() -> None:
    assert vivavoce.__all__ == sorted(vivavoce.__all__) == dir(vivavoce)
    assert set(vivavoce.__all__) == {*vivavoce._HOMES, "__version__"}


def test_every_public_name_resolves_to_its_home() -> None:
    for name, home in vivavoce._HOMES.items():
        value = getattr(vivavoce, name)
        assert value is getattr(sys.modules[home], name)
        assert value.__module__ == home
        assert value.__doc__
