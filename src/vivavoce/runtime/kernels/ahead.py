"""Compiling every kernel at the models' shapes for a GPU that need not be there.

What comes back is what a look at a GPU would have shown first: whether it compiles, how many
registers a thread takes, what spills, how much shared memory a program holds; and how often its
threads wait for each other and for memory, which is what a small kernel's time goes into.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from vivavoce.errors import VivavoceError
from vivavoce.runtime.kernels import (
    attention_triton,
    frame_ends_triton,
    linear_triton,
    sampler_triton,
)
from vivavoce.runtime.kernels.tiles import choose_tile

_NUMBER = r"(\d+)"
_RESOURCES = re.compile(rf"REG:{_NUMBER} STACK:{_NUMBER} SHARED:{_NUMBER} LOCAL:{_NUMBER}")
_BARRIER = re.compile(r"\bbar(?:rier)?(?:\.cta)?\.(?:sync|red)\b")
_SHUFFLE = re.compile(r"\bshfl\.sync\b")
_LOAD = re.compile(r"\bld\.global\b|\bcp\.async\.c[ag]\b")
_PLACE = re.compile(r"^(\$L\w+):|\bbra(?:\.uni)?\s+(\$L\w+)", re.MULTILINE)
_ALIGNED = [["tt.divisibility", 16]]


@dataclass(frozen=True)
class Case:
    """A kernel at one shape: its parameters' types, and what is known when it is compiled."""

    name: str
    kernel: Any
    types: Any
    plan: Any
    warps: int
    scalars: Mapping[str, str]

    def options(self) -> dict[str, Any]:
        """What it is launched with."""
        registers = getattr(self.plan, "registers", None)
        return {"num_warps": self.warps, "num_stages": 3, "maxnreg": registers}

    def source(self) -> ASTSource:
        """What Triton compiles."""
        names = [name for name in self.kernel.arg_names if name not in self.scalars]
        signature = {names[0]: self.types, **self.scalars, names[1]: "constexpr"}
        ordered = {name: signature[name] for name in self.kernel.arg_names}
        place = self.kernel.arg_names.index("how")
        constants: dict[Any, Any] = {(place,): self.plan}
        missing = [(0, i) for i, kind in enumerate(self.types) if kind == "constexpr"]
        constants |= dict.fromkeys(missing)
        pointers = [(0, i) for i, kind in enumerate(self.types) if str(kind).startswith("*")]
        return ASTSource(self.kernel, ordered, constants, dict.fromkeys(pointers, _ALIGNED))


@dataclass(frozen=True)
class Resources:
    """What one kernel takes of a multiprocessor.

    ``barriers``: instructions, as PTX has them, at which all warps of a program wait for each
    other; ``shuffles``: those that exchange a number within a warp; ``loop_loads``: loads from the
    GPU's memory in the loop that has most, each of one to 16 bytes a thread, and ``loop_barriers``
    likewise. 0 where all is unrolled.
    """

    kernel: str
    capability: int
    warps: int
    registers: int
    spilled_bytes: int
    shared_bytes: int
    tensor_cores: bool
    barriers: int
    shuffles: int
    loop_loads: int
    loop_barriers: int

    def row(self) -> dict[str, Any]:
        """For a report."""
        return asdict(self)


def cases() -> Iterator[Case]:
    """Every kernel at the shapes of both models, for one row, few rows and many."""
    for rows in (1, 4, 8, 16):
        for kind in ("*bf16", "*i8", "*fp8e4nv"):
            yield from _projections(rows, kind)
        yield from _text_and_pairs(rows)
    for rows in (32, 64):
        yield from _projections(rows, "*i8")
    yield _attention("attend frame", stored=16)
    yield _sampler("sample code", 2048, 1024, rules=False)
    yield _attention("attend prologue", stored=16, steps=2)
    yield _attention("attend talker", stored=2048, splits=8)
    for hidden in (1024, 2048):
        yield _sampler(f"sample first {hidden}", 3072, hidden, rules=True)
        yield from _ends(hidden)
        yield _norm(hidden)
    for kind in ("*bf16", "*i8"):
        yield _text(kind)


def compile_case(case: Case, capability: int) -> Resources:
    """Compile for ``sm_<capability>``. Raises VivavoceError with the compiler's words."""
    target = GPUTarget("cuda", capability, 32)
    try:
        compiled = triton.compile(case.source(), target=target, options=case.options())
    except (triton.CompilationError, RuntimeError) as error:
        raise VivavoceError(f"{case.name} does not compile for sm_{capability}: {error}") from error
    registers, stack, local = _resources(compiled.asm["cubin"])
    ptx = compiled.asm["ptx"]
    return Resources(
        kernel=case.name,
        capability=capability,
        warps=case.warps,
        registers=registers,
        spilled_bytes=stack + local,
        shared_bytes=compiled.metadata.shared,
        tensor_cores="mma" in ptx,
        barriers=_count(_BARRIER, ptx),
        shuffles=_count(_SHUFFLE, ptx),
        loop_loads=max((_count(_LOAD, loop) for loop in loops(ptx)), default=0),
        loop_barriers=max((_count(_BARRIER, loop) for loop in loops(ptx)), default=0),
    )


def loops(ptx: str) -> list[str]:
    """The text of each loop: from a label to a branch that comes behind it and leads back to it."""
    labels: dict[str, int] = {}
    found = []
    for place in _PLACE.finditer(ptx):
        label, target = place.groups()
        if label is not None:
            labels[label] = place.start()
        elif target in labels:
            found.append(ptx[labels[target] : place.end()])
    return found


def _count(pattern: re.Pattern[str], ptx: str) -> int:
    return len(pattern.findall(ptx))


def _resources(cubin: bytes) -> tuple[int, int, int]:
    """Registers of a thread, and the bytes of its stack and of its local memory."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", str(path)]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = _RESOURCES.search(told)
    if found is None:
        raise VivavoceError(f"cuobjdump told nothing of registers: {told[:200]!r}")
    registers, stack, _, local = map(int, found.groups())
    return registers, stack, local


# Outputs and inputs: queries with keys and values, attention's output, the last of the MLP, heads.
_PREDICTOR = {"qkv": (4096, 1024), "out": (1024, 2048), "down": (1024, 3072), "head": (2048, 1024)}
_TALKER = {"qkv": (4096, 2048), "out": (2048, 2048), "down": (2048, 6144), "head": (3072, 2048)}
_GATED = {"predictor": (3072, 1024), "talker": (6144, 2048)}
_BYTES = {"*bf16": 2, "*i8": 1, "*fp8e4nv": 1}
_NORMED = ("qkv", "head")


def _projections(rows: int, kind: str) -> Iterator[Case]:
    for model, shapes in (("predictor", _PREDICTOR), ("talker", _TALKER)):
        for name, (n, k) in shapes.items():
            plan = linear_triton.Plan(
                rows, n, k, 1e-6, False, choose_tile(rows, n, k, _BYTES[kind]), k
            )
            yield _projection(f"{model} {name}", kind, plan, name in _NORMED)
        n, k = _GATED[model]
        tile = choose_tile(rows, n, k, _BYTES[kind], gated=True)
        plan = linear_triton.Plan(rows, n, k, 1e-6, True, tile, k)
        yield _projection(f"{model} gate", kind, plan, normed=True)


def _text_and_pairs(rows: int) -> Iterator[Case]:
    """What is never quantized, and a head whose activations stand apart, as a pair's do."""
    for name, (n, k), activated in (
        ("text first", (2048, 2048), True),
        ("text second 1024", (1024, 2048), False),
        ("text second 2048", (2048, 2048), False),
    ):
        tile = choose_tile(rows, n, k, 2)
        plan = linear_triton.Plan(rows, n, k, 0.0, False, tile, k, activated)
        case = _projection(name, "*bf16", plan, normed=False)
        residual = "constexpr" if activated else "*bf16"
        yield replace(case, types=case.types._replace(bias="*bf16", residual=residual))
    n, k = _PREDICTOR["head"]
    plan = linear_triton.Plan(rows, n, k, 1e-6, False, choose_tile(rows, n, k, 2), 2 * k)
    yield _projection("predictor head of a pair", "*bf16", plan, normed=True)


def _projection(name: str, kind: str, plan: linear_triton.Plan, normed: bool) -> Case:
    types = linear_triton.Operands(
        x="*bf16",
        weight=kind,
        scale="constexpr" if kind == "*bf16" else "*fp32",
        bias="constexpr",
        norm="*bf16" if normed else "constexpr",
        residual="constexpr" if normed else "*bf16",
        out="*bf16",
    )
    kernel = linear_triton.dot_kernel if plan.tile.dot else linear_triton.vector_kernel
    whole = f"{name} {kind[1:]} rows {plan.rows}"
    return Case(whole, kernel, types, plan, plan.tile.warps, {})


def _attention(name: str, stored: int, splits: int = 1, steps: int = 1) -> Case:
    plan = attention_triton.Plan(
        heads=16,
        kv_heads=8,
        size=128,
        steps=steps,
        stored=stored,
        splits=splits,
        eps=1e-6,
    )
    talking = ("*i1", "*fp32", "*fp32", "*i32") if splits > 1 else ("constexpr",) * 4
    bf16 = "*bf16"
    types = attention_triton.Operands(
        bf16, bf16, bf16, bf16, bf16, bf16, bf16, "*i64", *talking, bf16
    )
    return Case(name, attention_triton.attend_kernel, types, plan, 4, {})


def _sampler(name: str, vocabulary: int, hidden: int, rules: bool) -> Case:
    end = 2150 if rules else -1
    plan = sampler_triton.Plan(vocabulary, end, 2048, hidden, 16, 2 * hidden if rules else hidden)
    types = sampler_triton.Operands(
        scores="*bf16",
        seen="*i1" if rules else "constexpr",
        penalty="*fp32" if rules else "constexpr",
        no_end="*i1" if rules else "constexpr",
        greedy="*i1",
        temperature="*fp32",
        top_k="*i64",
        tail="*fp32",
        seeds="*i64",
        counters="*i64",
        table="*bf16",
        choice="*i64",
        embedded="*bf16",
    )
    kernel = sampler_triton.sample_kernel
    return Case(name, kernel, types, plan, 4, {"group": "i32"})


def _text(kind: str) -> Case:
    i64, scale = "*i64", "constexpr" if kind == "*bf16" else "*fp32"
    types = frame_ends_triton.TextOperands(i64, i64, i64, kind, scale, "*bf16")
    plan = frame_ends_triton.TextPlan(1024, 2048, 151671, 256)
    return Case(f"next text {kind[1:]}", frame_ends_triton.text_kernel, types, plan, 4, {})


def _ends(hidden: int) -> Iterator[Case]:
    i64, i1, bf16, none = "*i64", "*i1", "*bf16", "constexpr"
    how: Any
    how = frame_ends_triton.SettlePlan(hidden, 1e-6)
    for name, stepped in (("settle", bf16), ("settle first", none)):
        flags, numbers, out = (i1,) * 4, (i64,) * 4, (bf16, i1, i1, i1, bf16)
        types = frame_ends_triton.SettleOperands(stepped, stepped, *flags, *numbers, *out)
        yield Case(f"{name} {hidden}", frame_ends_triton.settle_kernel, types, how, 4, {})
    how = frame_ends_triton.FinishPlan(16, 3072, 2048, hidden, 2150, 256)
    given, standing = (i64, i1, i1, bf16, bf16), (i1, i1, i64, i64, i64, i64)
    done = frame_ends_triton.FinishOperands(*given, *standing, bf16, i64, i1, i64)
    yield Case(f"finish {hidden}", frame_ends_triton.finish_kernel, done, how, 4, {})


def _norm(hidden: int) -> Case:
    plan = linear_triton.Plan(
        1, hidden, hidden, 1e-6, False, choose_tile(1, hidden, hidden, 2), hidden
    )
    none = "constexpr"
    types = linear_triton.Operands("*bf16", none, none, none, "*bf16", none, "*bf16")
    return Case(f"norm {hidden}", linear_triton.norm_kernel, types, plan, 4, {})
