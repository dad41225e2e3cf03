"""The parts of supervision: pauses between starts, and the server's signs of life."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from vivavoce.errors import SettingsError
from vivavoce.serving.supervisor import SupervisorLink, pause_before, supervise
from vivavoce.settings import Settings


@pytest.fixture
def link() -> Iterator[tuple[SupervisorLink, int]]:
    """A link whose pipe does not block, and the end that the supervisor reads."""
    reading, writing = os.pipe()
    listener = socket.create_server(("127.0.0.1", 0))
    made = SupervisorLink.inherited(f"{listener.detach()},{writing}")
    yield made, reading
    made.listener.close()
    os.close(writing)
    os.close(reading)


def test_the_first_restart_is_at_once_and_the_pauses_grow_to_a_limit() -> None:
    pauses = [pause_before(failures) for failures in range(1, 12)]
    assert pauses == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0]


def test_signs_arrive_in_order(link: tuple[SupervisorLink, int]) -> None:
    made, reading = link
    made.accepting()
    assert made.alive()
    made.closing()
    assert os.read(reading, 100) == b"+.-"


def test_a_supervisor_that_does_not_read_holds_up_nobody(link: tuple[SupervisorLink, int]) -> None:
    made, _ = link
    assert all(made.alive() for _ in range(200_000))


def test_a_supervisor_that_is_gone_is_noticed() -> None:
    reading, writing = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        link = SupervisorLink(listener, writing)
        assert link.alive()
        os.close(reading)
        assert not link.alive()
    os.close(writing)


def test_what_was_inherited_goes_no_further(link: tuple[SupervisorLink, int]) -> None:
    made, _ = link
    assert not made.listener.get_inheritable()
    assert made.listener.getsockname()[0] == "127.0.0.1"


def test_a_public_address_needs_a_key_here_too() -> None:
    with pytest.raises(SettingsError, match="VIVAVOCE_API_KEYS"):
        supervise(Settings(engine="fake", host="0.0.0.0", port=0), [])
