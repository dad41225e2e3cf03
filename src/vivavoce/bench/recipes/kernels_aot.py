"""Compile every kernel for GPUs that need not be here: ``vivavoce bench recipe kernels_aot``.

Prints registers, spilled bytes, shared memory, barriers and loads of each kernel at each shape,
writes them as JSON, and ends with status 1 if a kernel does not compile or spills. Needs Triton;
one of another version is taken from a folder that stands first in PYTHONPATH.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
from collections.abc import Iterator
from typing import Any

from .turns import Result

CAPABILITIES = (80, 89, 90)
FLOAT8 = 89
# Registers of a multiprocessor: how many programs it holds follows from it.
REGISTERS = 65536


def chosen(capability: int, quick: bool, only: str) -> Iterator[Any]:
    """The cases to compile: what a GPU is never given, float8 before sm_89, is left out."""
    from vivavoce.runtime.kernels.ahead import cases

    for case in cases():
        unknown = capability < FLOAT8 and "fp8" in case.name
        if (
            not unknown
            and case.name.startswith(only)
            and not (quick and getattr(case.plan, "rows", 1) > 1)
        ):
            yield case


def compiled(case: Any, capability: int, faults: list[str]) -> dict[str, Any] | None:
    """One kernel's resources; None, and a fault noted, where it does not compile."""
    from vivavoce.errors import VivavoceError
    from vivavoce.runtime.kernels.ahead import compile_case

    try:
        row = compile_case(case, capability).row()
    except VivavoceError as error:
        faults.append(str(error))
        return None
    programs = REGISTERS // (row["registers"] * row["warps"] * 32)
    return {**row, "programs_by_registers": programs}


def line(row: dict[str, Any]) -> str:
    """One kernel in one line."""
    return (
        f"sm_{row['capability']} {row['kernel']:36} {row['warps']} warps"
        f" {row['registers']:4} registers {row['spilled_bytes']:4} B spilled"
        f" {row['shared_bytes']:6} B shared {row['barriers']:3} barriers, in a loop"
        f" {row['loop_barriers']:2} and {row['loop_loads']:2} loads"
        f" {'mma' if row['tensor_cores'] else ''}"
    )


def options(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    parser.add_argument("--capability", type=int, action="append", help="e.g. 89; repeatable")
    parser.add_argument("--quick", action="store_true", help="one row only")
    parser.add_argument("--only", default="", help="kernels whose names begin so")


def main(asked: argparse.Namespace) -> Result:
    """Compile, print, judge."""
    rows: list[dict[str, Any]] = []
    faults: list[str] = []
    for capability in asked.capability or CAPABILITIES:
        for case in chosen(capability, asked.quick, asked.only):
            row = compiled(case, capability, faults)
            if row is not None:
                rows.append(row)
                print(line(row), flush=True)
    spilling = [row["kernel"] for row in rows if row["spilled_bytes"]]
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"{len(rows)} compiled, {len(faults)} failed, {len(spilling)} spill: {spilling}")
    triton = importlib.metadata.version("triton")
    figures = {"gpu": "none (ahead of time)", "triton": triton, "faults": faults, "kernels": rows}
    return Result(figures, well=not faults and not spilling)
