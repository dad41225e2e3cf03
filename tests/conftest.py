"""For all tests."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Coroutine tests run in asyncio."""
    return "asyncio"
