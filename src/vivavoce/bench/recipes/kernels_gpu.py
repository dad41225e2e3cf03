"""The kernels on a GPU: ``vivavoce bench recipe kernels_gpu``.

For each kernel at the models' shapes: its error against float64 beside the plain path's, its
milliseconds inside a captured graph, and the fraction of this GPU's own copy bandwidth (measured in
the same run) that its bytes come to. Weights rotate through more memory than the second-level cache
holds. Then a whole frame of the code predictor, 15 passes as one graph, by batch and precision.
Ends with status 2 where there is no GPU.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from vivavoce.bench.engine.clock import graph_times_ms

from .turns import Result

BATCHES = (1, 2, 4, 8, 16)
ROUNDS = 5
GROUPS = 16
# Outputs and inputs, and whether a norm stands before it or a residual behind.
SHAPES = {
    "predictor qkv": (4096, 1024, True),
    "predictor out": (1024, 2048, False),
    "predictor gate": (3072, 1024, True),
    "predictor down": (1024, 3072, False),
    "predictor head": (2048, 1024, True),
    "talker qkv": (4096, 2048, True),
    "talker out": (2048, 2048, False),
    "talker gate": (6144, 2048, True),
    "talker down": (2048, 6144, False),
}


def graph_ms(calls: Sequence[Callable[[], Any]]) -> float:
    """Milliseconds of one call: all of them captured as one graph, replayed, the median."""
    return statistics.median(graph_times_ms(calls, ROUNDS)) / len(calls)


def copy_bandwidth(device: Any) -> float:
    """GB/s of a large copy, bytes read and written together."""
    import torch

    source = torch.empty(2**29, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    ms = graph_ms([lambda: target.copy_(source)] * 8)
    return 2 * source.nbytes / ms / 1e6


def rotated(make: Callable[[], Any], nbytes: int, device: Any) -> list[Any]:
    """So many different weights that the second-level cache holds none for long."""
    import torch

    cache = getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 64 * 2**20)
    return [make() for _ in range(max(4, 3 * cache // nbytes + 1))]


def relative(got: Any, exact: Any) -> float:
    """The largest difference in parts of the largest value."""
    return float((got.double() - exact).abs().max() / exact.abs().max())


def projections(device: Any, copy_gb_s: float, tune: bool) -> list[dict[str, Any]]:
    """Every matrix, precision and batch."""
    from vivavoce.runtime.nn.weights import Precision

    rows = []
    for name, (n, k, normed) in SHAPES.items():
        for precision in Precision:
            for batch in BATCHES:
                rows.append(projection(name, (n, k, normed), precision, batch, device))
                fraction = rows[-1]["gb_s"] / copy_gb_s
                rows[-1]["of_copy"] = round(fraction, 3)
                if tune:
                    rows[-1]["tiles"] = tiles(name, (n, k, normed), precision, batch, device)
                print(projection_line(rows[-1]), flush=True)
    return rows


def projection_line(row: dict[str, Any]) -> str:
    """One measurement in one line."""
    plain = f"plain {row['plain_ms'] * 1e3:7.2f} us"
    return (
        f"{row['name']:16} {row['precision']:5} rows {row['batch']:2} {row['ms'] * 1e3:7.2f} us"
        f" {row['of_copy']:6.1%} of copy | {plain} | error {row['error']:.1e}"
        f" ({row['plain_error']:.1e}) {'' if row['correct'] else 'WRONG'}"
    )


def operands(shape: tuple[int, int, bool], precision: Any, batch: int, device: Any) -> Any:
    """Activations, a norm or a residual, and a function that makes weights."""
    import torch

    from vivavoce.runtime.kernels.linear import Norm
    from vivavoce.runtime.nn.weights import quantize

    n, k, normed = shape
    x = torch.randn(batch, k, device=device).bfloat16()
    norm = Norm((1 + torch.randn(k, device=device) / 4).bfloat16(), 1e-6) if normed else None
    residual = None if normed else torch.randn(batch, n, device=device).bfloat16()

    def make(count: int) -> Any:
        matrix = (torch.randn(count, k, device=device) / k**0.5).bfloat16()
        return quantize(matrix, precision)

    return x, norm, residual, make


def projection(
    name: str, shape: tuple[int, int, bool], precision: Any, batch: int, device: Any
) -> dict[str, Any]:
    """Error and time of one projection, beside the plain path."""
    from torch.nn import functional

    from vivavoce.runtime.kernels import linear as plain
    from vivavoce.runtime.kernels import linear_triton as fused

    x, norm, residual, make = operands(shape, precision, batch, device)
    gate = name.endswith("gate")
    count = shape[0] * (2 if gate else 1)
    weights = rotated(lambda: make(count), make(count).nbytes, device)
    weight = weights[0]
    exact = (x if norm is None else norm(x)).double() @ weight.restored(x.double().dtype).T
    if gate:
        first, second = exact.chunk(2, -1)
        exact = functional.silu(first) * second
    if residual is not None:
        exact = exact + residual.double()
    how = fused.plan(x, weight, norm, gated=gate)

    def run(path: str, weight: Any) -> Any:
        if path == "plain":
            return plain.gated(x, weight, norm) if gate else plain.linear(x, weight, norm, residual)
        return fused.project(x, weight, norm, residual, how)

    error, plain_error = (relative(run(path, weight), exact) for path in ("fused", "plain"))
    times = {
        path: graph_ms([partial(run, path, w) for w in weights]) for path in ("fused", "plain")
    }
    return {
        "name": name,
        "precision": str(precision),
        "batch": batch,
        "ms": times["fused"],
        "plain_ms": times["plain"],
        "gb_s": round(weight.nbytes / times["fused"] / 1e6, 1),
        "error": error,
        "plain_error": plain_error,
        "correct": error < 2**-5,
    }


def tiles(
    name: str, shape: tuple[int, int, bool], precision: Any, batch: int, device: Any
) -> list[dict[str, Any]]:
    """Other tiles, fastest first."""
    import triton

    from vivavoce.runtime.kernels import linear_triton as fused
    from vivavoce.runtime.kernels.tiles import Tile

    x, norm, residual, make = operands(shape, precision, batch, device)
    gate = name.endswith("gate")
    count = shape[0] * (2 if gate else 1)
    weights = rotated(lambda: make(count), make(count).nbytes, device)
    how = fused.plan(x, weights[0], norm, gated=gate)
    lane = 512 // weights[0].data.itemsize
    sums = [Tile(n, lane, w, 1, p) for n in (4, 8, 16) for p in (2, 4, 8) for w in (4, 8) if n >= w]
    dots = [Tile(n, 64, w, s, p, True) for n in (8, 16, 32) for w in (4, 8) for s in (3, 5)
            for p in (2, 4)]  # fmt: skip
    found = []
    for tile in (sums if batch <= 4 else []) + (dots if batch > 1 else []):
        if tile.block_n * tile.block_k * tile.parts > 2**15:
            continue
        plan = replace(how, tile=tile)
        try:
            ms = graph_ms([partial(fused.project, x, w, norm, residual, plan) for w in weights])
        except (triton.runtime.errors.OutOfResources, triton.CompilationError):
            continue
        found.append({"tile": str(tile), "ms": ms})
    return sorted(found, key=lambda row: float(str(row["ms"])))[:5]


def attention(device: Any) -> list[dict[str, Any]]:
    """A frame's short cache, and rows of the talker."""
    return [
        attend_case(span, stored, splits, batch, device)
        for span, stored, splits in ((16, 16, 1), (256, 2048, 1), (256, 2048, 8), (2048, 2048, 8))
        for batch in BATCHES
    ]


def attend_case(span: int, stored: int, splits: int, batch: int, device: Any) -> dict[str, Any]:
    """Both paths from the same cache."""
    import torch

    from vivavoce.runtime.kernels import attention as plain
    from vivavoce.runtime.kernels import attention_triton as fused
    from vivavoce.runtime.kernels.attention import Cache, Heads, Scratch
    from vivavoce.runtime.kernels.linear import Norm
    from vivavoce.runtime.nn.rope import RopeTable

    norm = Norm(torch.ones(128, device=device).bfloat16(), 1e-6)
    heads = Heads(16, 8, 128, norm, norm)
    qkv = torch.randn(batch, 1, heads.width, device=device).bfloat16()
    keys, values = (torch.randn(batch, 8, stored, 128, device=device).bfloat16() for _ in range(2))
    positions = torch.full((batch,), span - 1, device=device)
    scratch = Scratch.build(heads, batch, splits, device) if splits > 1 else None
    rope = RopeTable.build(stored, 128, 1e6, qkv)
    cache = Cache(keys, values, positions, scratch=scratch)
    wanted = plain.attend(qkv, heads, rope, cache)
    got = fused.attend(qkv, heads, rope, cache)
    error = relative(got, wanted.double())
    ms = graph_ms([lambda: fused.attend(qkv, heads, rope, cache)] * 20)
    plain_ms = graph_ms([lambda: plain.attend(qkv, heads, rope, cache)] * 20)
    row = {"name": f"attend {span} in {splits}", "batch": batch, "ms": ms, "plain_ms": plain_ms}
    print(f"{row['name']:20} rows {batch:2} {ms * 1e3:7.2f} us | plain {plain_ms * 1e3:7.2f} us")
    return {**row, "error": error, "correct": error < 2**-5}


def sampler(device: Any) -> list[dict[str, Any]]:
    """The same choices as the plain path, and how long they take."""
    import torch

    from vivavoce.runtime.kernels import sampler as plain
    from vivavoce.runtime.kernels import sampler_triton as fused
    from vivavoce.runtime.kernels.sampler import Noise
    from vivavoce.runtime.nn.sampling import SamplerOptions, SamplerRows

    rows = []
    for batch in BATCHES:
        for options in (SamplerOptions(), SamplerOptions(top_p=0.8)):
            how = SamplerRows.build(batch, device)
            for number in range(batch):
                how.set(number, options)
            scores = (torch.randn(batch, 2048, device=device) * 4).bfloat16()
            seeds = torch.randint(0, 2**32, (batch, 2), device=device)
            noise = Noise(seeds, torch.arange(batch, device=device))
            got, wanted = (each.sample(scores, how, noise, 3)[0] for each in (fused, plain))
            ms = graph_ms([partial(fused.sample, scores, how, noise, 3)] * 20)
            plain_ms = graph_ms([partial(plain.sample, scores, how, noise, 3)] * 20)
            name = f"sample top_p {options.top_p}"
            print(f"{name:20} rows {batch:2} {ms * 1e3:7.2f} us | plain {plain_ms * 1e3:7.2f} us")
            # Beside each other only: equal scores may leave top-p in another order.
            correct = bool((got == wanted).all()) or options.top_p < 1
            row = {"name": name, "batch": batch, "ms": ms, "plain_ms": plain_ms}
            rows.append({**row, "correct": correct})
    return rows


def predictor_frames(device: Any, copy_gb_s: float) -> list[dict[str, Any]]:
    """15 passes of the code predictor as one graph, against its bytes over the bandwidth."""
    from vivavoce.runtime.nn.weights import Precision

    rows = []
    for precision in Precision:
        for batch in BATCHES:
            ms, nbytes = predictor_frame(precision, batch, device)
            floor = nbytes / copy_gb_s / 1e6
            share = f"{floor / ms:.1%} of copy"
            print(f"predictor frame {precision:5} rows {batch:2} {ms:6.3f} ms, {share}")
            row = {"precision": str(precision), "batch": batch, "ms": ms, "floor_ms": floor}
            rows.append(row)
    return rows


def predictor_frame(precision: Any, batch: int, device: Any) -> tuple[float, int]:
    """Milliseconds of a frame, and the bytes it must read; weights are random."""
    import torch

    from vivavoce.runtime.kernels.decoder import FusedDecoder, Place
    from vivavoce.runtime.kernels.dispatch import chosen
    from vivavoce.runtime.kernels.sampler import Noise
    from vivavoce.runtime.nn.decoder import Decoder, DecoderShape
    from vivavoce.runtime.nn.kv import KVBuffer
    from vivavoce.runtime.nn.rope import RopeTable
    from vivavoce.runtime.nn.sampling import SamplerOptions, SamplerRows
    from vivavoce.runtime.nn.weights import quantize

    shape = DecoderShape(1024, 3072, 5, 16, 8, 128, 1e-6)
    kernels = chosen(device, torch.bfloat16)
    decoder = Decoder(shape).to(device, torch.bfloat16)
    fused = FusedDecoder.of(decoder, kernels, precision)
    x = torch.randn(batch, 2, 1024, device=device).bfloat16()
    kv, rope = (
        KVBuffer.zeros(shape.kv_shape(batch, GROUPS), x),
        RopeTable.build(GROUPS, 128, 1e6, x),
    )
    matrices = torch.randn(GROUPS - 1, 2048, 1024, device=device).bfloat16() / 32
    heads = [quantize(matrix, precision) for matrix in matrices]
    tables = torch.randn(GROUPS - 1, 2048, 1024, device=device).bfloat16()
    how = SamplerRows.build(batch, device)
    for number in range(batch):
        how.set(number, SamplerOptions())
    noise = Noise(
        torch.zeros(batch, 2, dtype=torch.int64, device=device), torch.zeros_like(how.top_k)
    )
    positions = [torch.full((batch,), at, device=device) for at in range(GROUPS)]

    def frame() -> None:
        state = fused.step(x, Place(rope, kv, positions[0]))[:, -1].contiguous()
        for group in range(1, GROUPS):
            scores = kernels.linear(state, heads[group - 1], fused.norm)
            _, embedded = kernels.sample(scores, how, noise, group, None, tables[group - 1])
            if group < GROUPS - 1:
                assert embedded is not None
                at = Place(rope, kv, positions[group + 1])
                state = fused.step(embedded[:, None], at)[:, 0]

    nbytes = (GROUPS - 1) * fused.nbytes + sum(head.nbytes for head in heads)
    return graph_ms([frame]), nbytes


def options(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    parser.add_argument("--tune", action="store_true", help="also try other tiles")


def main(asked: argparse.Namespace) -> Result:
    """Measure, print, judge."""
    import torch

    if not torch.cuda.is_available():
        print("no GPU: PyTorch sees no CUDA device, so there is nothing to measure.")
        return Result({}, well=False, keep=False)
    device = torch.device("cuda")
    torch.manual_seed(0)
    with torch.inference_mode():
        copy_gb_s = copy_bandwidth(device)
        print(
            f"{torch.cuda.get_device_name(device)}: copies at {copy_gb_s:.0f} GB/s (read + write)"
        )
        report: dict[str, Any] = {
            "gpu": torch.cuda.get_device_name(device),
            "copy_gb_s": round(copy_gb_s, 1),
            "projections": projections(device, copy_gb_s, asked.tune),
            "attention": attention(device),
            "sampler": sampler(device),
            "predictor_frame": predictor_frames(device, copy_gb_s),
        }
    wrong = [row for part in ("projections", "attention", "sampler") for row in report[part]]
    wrong = [row for row in wrong if not row["correct"]]
    print(f"{len(wrong)} kernels are wrong" if wrong else "all kernels are correct")
    return Result(report, well=not wrong)
