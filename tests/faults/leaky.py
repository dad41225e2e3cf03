"""``vivavoce`` with a fake engine that leaks: a soak that misses it is worth nothing."""

from __future__ import annotations

from vivavoce.cli.main import main
from vivavoce.testing.fake_engine import FakeEngine
from vivavoce.types import Utterance

LEAK_BYTES = 64 * 1024

_kept: list[bytearray] = []
_admit = FakeEngine.admit


def leaking_admit(self: FakeEngine, utterance: Utterance) -> int:
    """Admit, and keep some memory for good."""
    _kept.append(bytearray(b"x" * LEAK_BYTES))
    return _admit(self, utterance)


if __name__ == "__main__":
    FakeEngine.admit = leaking_admit  # type: ignore[method-assign]
    main()
