"""The stand-in: replays do what was recorded, and what a device would get wrong is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from vivavoce.runtime.graphs.api import CaptureFailed, Held, StaticTensors, Work
from vivavoce.testing.recorded_graphs import RecordingGraphs


def captured(
    work: Work, *buffers: Tensor, constants: tuple[Tensor, ...] = ()
) -> Callable[[], None]:
    api = RecordingGraphs()
    statics = StaticTensors().buffers(buffers).constants(constants)
    return api.capture("work", work, statics, api.pool())


def test_a_replay_reads_what_is_in_the_buffers_then() -> None:
    x, out, scale = torch.ones(3), torch.zeros(3), torch.full((3,), 2.0)

    def work() -> None:
        made = (x * scale).view(3, 1).add_(1)
        out.copy_(made[:, 0])

    replay = captured(work, x, out, constants=(scale,))
    x.copy_(torch.tensor([1.0, 5.0, -2.0]))
    replay()
    assert out.tolist() == [3.0, 11.0, -3.0]
    x.zero_()
    replay()
    assert out.tolist() == [1.0] * 3


def test_capturing_changes_nothing_beyond_the_warm_up() -> None:
    count = torch.zeros(1)
    replay = captured(lambda: count.add_(1).mul_(1), count)
    assert count.item() == 1  # the warm-up
    replay()
    replay()
    assert count.item() == 3


def test_python_is_not_run_again() -> None:
    said: list[int] = []
    out, step = torch.zeros(1), [1.0]

    def work() -> None:
        said.append(1)
        out.fill_(step[0])

    replay = captured(work, out)
    times = len(said)
    step[0] = 7.0
    replay()
    assert (out.item(), len(said)) == (1.0, times)


OUTSIDE = torch.arange(4.0)
INSIDE = torch.zeros(4)
WRONG: dict[str, tuple[Work, str]] = {
    "reads another tensor": (lambda: INSIDE.add_(OUTSIDE), "no static one"),
    "reads a view of another": (lambda: INSIDE.add_(OUTSIDE[1:2]), "no static one"),
    "makes a tensor from the host": (lambda: INSIDE.add_(torch.tensor([1.0] * 4)), "no static one"),
    "writes to another": (OUTSIDE[:2].zero_, "no static one"),
    "asks for a value": (lambda: INSIDE.add_(INSIDE.sum().item()), "host"),
    "branches on a value": (lambda: INSIDE.add_(1) if INSIDE.sum() > 0 else None, "host"),
    "copies to the host": (INSIDE.cpu, "host"),
    "a shape from data": (INSIDE.nonzero, "depends on data"),
    "picks by a mask": (lambda: INSIDE[INSIDE > 0], "mask"),
    "draws": (INSIDE.uniform_, "random"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_a_graph_would_do_wrong_is_refused(what: str) -> None:
    work, why = WRONG[what]
    INSIDE.fill_(0)

    def only_when_recorded() -> None:
        if torch.utils._python_dispatch._get_current_dispatch_mode() is not None:
            work()

    with pytest.raises(CaptureFailed, match=why):
        captured(only_when_recorded, INSIDE)
    assert INSIDE.tolist() == [0.0] * 4
    assert OUTSIDE.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_weights_are_not_written_to() -> None:
    weight = torch.ones(2)
    with pytest.raises(CaptureFailed, match="no buffer"):
        captured(lambda: weight.mul_(1), constants=(weight,))


def test_a_weight_that_moved_is_found() -> None:
    layer = nn.Linear(2, 2, bias=False).requires_grad_(False)
    x, out = torch.ones(1, 2), torch.zeros(1, 2)
    api = RecordingGraphs()
    statics = StaticTensors().buffers((x, out)).module(layer)
    replay = api.capture("layer", lambda: out.copy_(layer(x)), statics, api.pool())
    replay()
    assert torch.equal(out, layer(x))
    layer.weight.data = layer.weight.data.clone()
    with pytest.raises(CaptureFailed, match="not where it was"):
        replay()


def test_a_pool_belongs_to_one_stream() -> None:
    api, x = RecordingGraphs(eager=True), torch.zeros(1)
    pool, statics = api.pool(), StaticTensors().buffers((x,))
    first, second = (api.capture(name, lambda: x.add_(1), statics, pool) for name in ("a", "b"))
    first()
    with pytest.raises(CaptureFailed, match="two streams"):
        api.stream("other").run(second)


def test_memory_that_a_failed_capture_left_is_of_no_use() -> None:
    """As PyTorch leaves it; the pool has fresh memory then."""
    api, x = RecordingGraphs(refuses=lambda name: name == "bad"), torch.zeros(1)
    pool, statics = api.pool(), StaticTensors().buffers((x,))
    good = api.capture("good", lambda: x.add_(1), statics, pool)
    spoiled = pool.memory
    with pytest.raises(CaptureFailed, match="refused"):
        api.capture("bad", lambda: x.add_(1), statics, pool)
    assert spoiled.recording and pool.memory is not spoiled
    api.capture("next", lambda: x.add_(1), statics, pool)()
    good()
    pool.memory = spoiled
    with pytest.raises(CaptureFailed, match="already recording"):
        api.capture("other", lambda: x.add_(1), statics, pool)


def test_a_warm_up_that_fails_spoils_nothing() -> None:
    api = RecordingGraphs()
    pool = api.pool()
    memory = pool.memory

    def refused() -> None:
        raise CaptureFailed("no such kernel")

    with pytest.raises(CaptureFailed, match="kernel"):
        api.capture("bad", refused, StaticTensors(), pool)
    assert pool.memory is not memory and not memory.recording


def test_a_released_graph_is_gone_and_accounted_for() -> None:
    api, x = RecordingGraphs(), torch.zeros(8)
    replay = api.capture("a", lambda: x.copy_(x + 1), StaticTensors().buffers((x,)), api.pool())
    assert api.account.held == Held(graphs=1, graph_bytes=32)
    replay.release()
    replay.release()
    assert api.account.held == Held()
    with pytest.raises(CaptureFailed, match="release"):
        replay()


def test_lazy_streams_do_nothing_before_somebody_waits() -> None:
    api, x = RecordingGraphs(), torch.zeros(1)
    stream, event, early = api.stream("codec"), api.event(), api.event()
    early.record(stream)
    stream.run(lambda: x.add_(1))
    event.record(stream)
    stream.run(lambda: x.add_(10))
    early.wait()
    assert (x.item(), early.done(), event.done()) == (0, True, False)
    api.main.wait(event)
    assert (x.item(), event.done()) == (1, True)
    stream.synchronize()
    assert x.item() == 11


def test_polling_an_event_comes_to_an_end() -> None:
    api, x = RecordingGraphs(), torch.zeros(1)
    stream, event = api.stream("copy"), api.event()
    stream.run(lambda: x.add_(1))
    event.record(stream)
    assert [event.done() for _ in range(4)] == [False, False, True, True]
    assert x.item() == 1
