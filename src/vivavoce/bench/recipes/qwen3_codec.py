"""What the codec costs at true size: ``vivavoce bench recipe qwen3_codec``.

Random weights, fp32. Milliseconds of work for one frame (80 ms of sound) by chunk length, rows in
the batch and threads; priming a stream with ten seconds of a reference; encoding ten seconds; a
speaker's vector of them; memory of one row; on a GPU also with the call captured as a graph.
Every number of threads runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .turns import Result, turn

CHUNKS = (1, 4, 12)
ROWS = (1, 4)
REFERENCE_S = 10
FRAMES_PER_S = 12.5
ROUNDS = 7


def measure(threads: int, device: str) -> dict[str, Any]:
    """Everything with so many threads, in this process."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    config = published_config()
    decoder = random_decoder(config, device)
    with torch.inference_mode():
        return {
            "threads": threads,
            "device": device,
            "decode_ms_per_frame": {
                f"{rows} rows, chunk {chunk}": decode_ms(decoder, rows, chunk)
                for rows in ROWS
                for chunk in CHUNKS
            },
            **graphs(decoder),
            "row_mib": round(decoder.row_bytes() / 2**20, 2),
            "prime_ms": prime_ms(decoder),
            **references(config, device),
            "resident_mb": resident_mb(),
        }


def published_config() -> Any:
    """The codec's configuration as published."""
    from vivavoce.engines.qwen3.codec_config import CodecConfig
    from vivavoce.testing.published_config import codec_config

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(codec_config()), "utf-8")
        return CodecConfig.load(Path(folder))


def random_decoder(config: Any, device: str) -> Any:
    """A decoder with PyTorch's own random weights."""
    import torch

    from vivavoce.engines.qwen3.codec.decoder import CodecDecoder

    decoder = CodecDecoder(config.decoder)
    decoder.tables.table.normal_(std=0.1)
    decoder.fold()
    return decoder.eval().to(torch.device(device))


def decode_ms(decoder: Any, rows: int, chunk: int) -> float:
    """Milliseconds of one frame of one row, the stream being longer than the window."""
    state, codes = primed(decoder, rows, chunk)
    return per_frame(lambda: decoder.decode(codes, state), state, rows * chunk)


def graphs(decoder: Any) -> dict[str, Any]:
    """The same with the call captured as a CUDA graph."""
    import torch

    if decoder.tables.table.device.type != "cuda":
        return {}
    figures = {}
    for rows in ROWS:
        for chunk in CHUNKS:
            state, codes = primed(decoder, rows, chunk)
            for _ in range(3):
                decoder.decode(codes, state)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                decoder.decode(codes, state)
            figures[f"{rows} rows, chunk {chunk}"] = per_frame(graph.replay, state, rows * chunk)
    return {"captured_ms_per_frame": figures}


def primed(decoder: Any, rows: int, chunk: int) -> tuple[Any, Any]:
    """A state beyond the window's length, and codes for the next chunk."""
    import torch

    device = decoder.tables.table.device
    state = decoder.init_state(rows)
    state.positions.fill_(100)
    size = decoder.config.codebook_size
    codes = torch.randint(0, size, (rows, chunk, decoder.config.num_quantizers), device=device)
    return state, codes


def per_frame(work: Callable[[], Any], state: Any, frames: int) -> float:
    """Median milliseconds of ``work`` for each of its frames."""
    return round(timed(work, state.positions.device.type) / frames, 2)


def timed(work: Callable[[], Any], device: str = "cpu") -> float:
    """Median milliseconds."""
    import torch

    work()
    spent_ms = []
    for _ in range(ROUNDS):
        began_s = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        spent_ms.append((time.perf_counter() - began_s) * 1000)
    return statistics.median(spent_ms)


def prime_ms(decoder: Any) -> float:
    """Milliseconds to prime a stream with a reference's codes."""
    _, codes = primed(decoder, 1, round(REFERENCE_S * FRAMES_PER_S))
    return round(timed(lambda: decoder.prime(codes[0]), codes.device.type), 1)


def references(config: Any, device: str) -> dict[str, float]:
    """Milliseconds to encode a reference, and to compute its speaker's vector."""
    import torch

    from vivavoce.engines.qwen3.codec.encoder import CodecEncoder
    from vivavoce.engines.qwen3.config import SpeakerEncoderConfig
    from vivavoce.engines.qwen3.speaker import SpeakerEncoder

    encoder = CodecEncoder(config).eval()
    encoder.books.normal_()
    encoder = encoder.to(torch.device(device))
    speaker = SpeakerEncoder(SpeakerEncoderConfig(enc_dim=1024, sample_rate=24_000)).to(device)
    sound = (torch.rand(REFERENCE_S * encoder.sample_rate_hz) - 0.5).to(device)
    return {
        "encode_ms": round(timed(lambda: encoder.encode(sound), device), 1),
        "speaker_ms": round(timed(lambda: speaker(sound), device), 1),
    }


def resident_mb() -> int:
    """This process's largest resident memory (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return round(int(line.split()[1]) / 1024)


def options(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])


def main(asked: argparse.Namespace) -> Result:
    """Each number of threads in a process of its own."""
    results = []
    for threads in asked.threads:
        results.append(turn("qwen3_codec", threads, asked.device))
        print(json.dumps(results[-1], indent=2), flush=True)
    return Result({"device_asked": asked.device, "results": results})


def work(threads: str, device: str) -> None:
    """Measure in this process."""
    print(json.dumps(measure(int(threads), device)))
