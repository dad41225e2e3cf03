"""A part's result as a terminal shows it; the file has the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

Told: TypeAlias = Mapping[str, Any]

NOT_FOUND = ("took_s", "where")
"""What says how it was measured, not what was."""


def lines(part: str, told: Told) -> str:
    """The short of what a part found."""
    if "failed" in told:
        return f"  failed: {told['failed']}"
    if part == "kernels":
        return "\n".join(_kernels(told))
    found = {name: each for name, each in told.items() if name not in NOT_FOUND}
    if part == "frames":
        found = {name: _frames(each) for name, each in found.items() if isinstance(each, Mapping)}
    return "\n".join(f"  {name}: {each}" for name, each in found.items())


def _frames(told: Told) -> str:
    if "failed" in told:
        return f"failed: {told['failed']}"
    by_rows = ", ".join(
        f"{rows} rows {ms} ms ({told['share_of_floor'][rows]:.0%} of the floor, predicted "
        f"{told['predicted_ms'][rows]} ms)"
        for rows, ms in told["ms"].items()
    )
    stages = next(iter(told["stages_ms"].values()))
    apart = ", ".join(f"{name} {ms}" for name, ms in stages.items())
    return (
        f"a frame of {by_rows}\n    by stage, ms: {apart}\n"
        f"    first sound {_spread(told['first_sound_ms'])}, audible "
        f"{_spread(told['first_audible_ms'])}; weights {told['weights_mb']} MB; "
        f"memory {told['memory_mb']}"
    )


def _spread(told: Told) -> str:
    return f"p50 {told['p50']} ms, p95 {told['p95']} ms" if told else "never"


def _kernels(told: Told) -> Iterator[str]:
    yield f"  by {told['path']} ({told['why']}); a copy moves {told['copy_gb_s']} GB/s"
    yield from map(_product, told["rows"])
    yield from map(_other, told["others"])
    yield f"  {told['launches_a_frame']} launches a frame; one after the other:"
    yield from map(_whole_frame, told["frame_ms"])


def _product(row: Told) -> str:
    return (
        f"  {row['name']:16} {row['precision']:5} {row['rows']:3} rows {row['ms']:9.4f} ms "
        f"{row['of_copy']:6.1%} of a copy's bandwidth, error {row['error']:.1e}{_plain(row)}"
    )


def _other(row: Told) -> str:
    return (
        f"  {row['name']:26} {row['rows']:3} rows {row['ms']:9.4f} ms, {row['launches']} a frame"
        f"{_plain(row)}"
    )


def _plain(row: Told) -> str:
    return f", plain {row['plain_ms']} ms" if "plain_ms" in row else ""


def _whole_frame(each: Told) -> str:
    return (
        f"  {each['precision']:26} {each['rows']:3} rows {each['sum']:9.3f} ms, plain "
        f"{each['plain_sum']} ms; what they read takes {each['floor']} ms"
    )
