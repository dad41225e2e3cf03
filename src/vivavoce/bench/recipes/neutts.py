"""NeuTTS on a CPU: ``vivavoce bench recipe neutts``.

The same random weights of true size are spoken by the engine and by the algorithm that the models
are published with, as far as it is described: one request at a time, ``create_completion`` on the
whole vocabulary with text in and text out, codes found with a regular expression, the first sound
after 30 codes, windows of 82 codes for every 25 (overlap-add over all windows), backbone and codec
in one thread. The codec is the same graph for both, for the published algorithm in float32 and in
int8. Reference of 3.5 s, 5 s of speech. Every setting runs in a process of its own, so that memory
is its own, and all take turns, round by round: a ratio is the median of the rounds' ratios. "ours"
begins with pieces that this machine can go on feeding, "quickest" always with the smallest, and
reads prompts with flash attention.
``read_gb_s`` is what one core reads from memory: a token reads all weights, so that times on
machines with another figure do not compare; the ratios do.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from .published_neutts import CODES, published_stream
from .turns import Conversation, Result, worker_command

MODELS = ("neutts-nano", "neutts-air")
REFERENCE_CODES = 175
REFERENCE_TEXT = "So I'm live on radio, and my friend James was there."
TEXTS = (
    "The quick brown fox jumps over the lazy dog while the band plays on all night.",
    "Your appointment with the doctor has been moved to Tuesday at half past nine.",
    "Please hold the line while I look for the order that you placed last week.",
    "The next train to the airport leaves in ten minutes from platform number two.",
)
KINDS = ("float32", "int8", "ours", "quickest")
RATE_HZ = 24_000


@dataclass(frozen=True)
class Heard:
    """When each piece of one utterance arrived (seconds since the request) and its samples."""

    pieces: list[tuple[float, int]]

    @property
    def first_ms(self) -> float:
        """When the first sound came."""
        return self.pieces[0][0] * 1000

    @property
    def audio_s(self) -> float:
        """How much sound there was."""
        return sum(samples for _, samples in self.pieces) / RATE_HZ

    @property
    def worst_stall_ms(self) -> float:
        """The longest gap of a playback that begins with the first piece."""
        dry_s, worst_s = self.pieces[0][0], 0.0
        for at_s, samples in self.pieces:
            worst_s = max(worst_s, at_s - dry_s)
            dry_s = max(dry_s, at_s) + samples / RATE_HZ
        return worst_s * 1000


Spoken: TypeAlias = tuple[list[Heard], float]
"""What each caller heard, and the seconds of all together."""


def make_models(name: str, folder: Path) -> None:
    """Backbone, codec and a voice, once."""
    from vivavoce.testing.random_gguf import make_random_gguf
    from vivavoce.testing.random_neucodec import make_random_codec

    backbone, codec = folder / f"{name}.gguf", folder / "codec.safetensors"
    if not backbone.exists():
        part = backbone.with_suffix(".part")
        make_random_gguf(name, part, end_every=0)
        quieten_words(part)
        part.rename(backbone)
    if not codec.exists():
        make_random_codec(codec)
    voices = folder / "voices"
    voices.mkdir(exist_ok=True)
    codes = np.random.default_rng(1).integers(0, 65_536, REFERENCE_CODES)
    np.save(voices / "someone.npy", codes)
    (voices / "someone.txt").write_text(REFERENCE_TEXT)


def quieten_words(path: Path) -> None:
    """A random model says words as often as speech; with a lesser scale, it never does."""
    import gguf

    reader = gguf.GGUFReader(path, "r+")
    names = reader.fields["tokenizer.ggml.tokens"]
    first = next(i for i, at in enumerate(names.data) if bytes(names.parts[at]) == b"<|speech_0|>")
    head = next(each for each in reader.tensors if each.name == "token_embd.weight")
    blocks = head.data[: first - 10].reshape(-1, 34)
    scales = np.ascontiguousarray(blocks[:, :2]).view(np.float16) * np.float16(0.05)
    blocks[:, :2] = scales.view(np.uint8)
    reader.data.flush()


class Ours:
    """The engine, in this process."""

    most_callers = 4

    def __init__(self, name: str, folder: Path, **options: Any) -> None:
        from vivavoce.engines.neutts import create

        self.engine = create({
            "backbone_repo": str(folder / f"{name}.gguf"),
            "codec_repo": str(folder / "codec.safetensors"),
            "voices_dir": str(folder / "voices"),
            "capacity": self.most_callers,
            **options,
        })  # fmt: skip
        self.engine.load()

    def speak(self, callers: int, number: int) -> Spoken:
        """So many callers at once: what each heard, and the wall time of all together."""
        engine = self.engine
        began_s = time.perf_counter()
        live = {admit(engine, TEXTS[n % len(TEXTS)], number * 10 + n) for n in range(callers)}
        heard: dict[int, list[tuple[float, int]]] = {slot: [] for slot in live}
        while live:
            for piece in engine.step():
                if piece.error is not None:
                    raise piece.error
                if len(piece.samples):
                    heard[piece.slot].append((time.perf_counter() - began_s, len(piece.samples)))
                if piece.last:
                    live.remove(piece.slot)
        return [Heard(pieces) for pieces in heard.values()], time.perf_counter() - began_s

    def told(self) -> dict[str, Any]:
        """Sizes of the pieces, and what the stages of one utterance took."""
        chunks = self.engine.info.details["chunks"]
        return {"chunks": chunks, "stages_ms": speak_stages(self.engine)}


def admit(engine: Any, text: str, seed: int) -> int:
    """Take a slot for a text."""
    from vivavoce.types import Sampling, Span, Utterance

    options = {"max_codes": CODES, "guards": False}
    voice = engine.voices()[0]
    said = (Span(text),)
    slot: int = engine.admit(
        Utterance(
            said, voice, sampling=Sampling(seed=seed), deadline_s=time.monotonic(), options=options
        )
    )
    return slot


def speak_stages(engine: Any) -> dict[str, float]:
    """Milliseconds of each stage of one utterance."""
    slot = admit(engine, TEXTS[0], 99)
    stages: dict[str, float] = {}
    while True:
        for piece in engine.step():
            for stage, spent_ms in piece.stages_ms.items():
                stages[stage] = round(stages.get(stage, 0.0) + spent_ms, 1)
            if piece.last and piece.slot == slot:
                return stages


class Published:
    """The published algorithm, in this process; ``precision`` is the codec's."""

    def __init__(self, name: str, folder: Path, precision: str) -> None:
        import llama_cpp

        from vivavoce.engines.neutts.codec.network import open_decoder
        from vivavoce.engines.neutts.codec.onnx_files import graph_file
        from vivavoce.runtime.onnx import onnx_runtime

        cores = len(os.sched_getaffinity(0))
        self._llama = llama_cpp.Llama(
            str(folder / f"{name}.gguf"),
            n_ctx=2048,
            n_batch=512,
            n_ubatch=512,
            n_threads=max(1, cores // 2),
            n_threads_batch=cores,
            verbose=False,
        )
        weights = open_decoder(folder / "codec.safetensors")
        with graph_file(weights, precision) as graph:  # type: ignore[arg-type]
            self._codec = onnx_runtime().InferenceSession(
                str(graph), providers=["CPUExecutionProvider"]
            )
        self._reference = np.load(folder / "voices" / "someone.npy").tolist()

    def speak(self, callers: int, number: int) -> Spoken:
        """One caller: what was heard, and the wall time."""
        from vivavoce.engines.neutts.phonemes import phonemes

        start_s = time.perf_counter()
        text = TEXTS[number % len(TEXTS)]
        said = f"{phonemes(REFERENCE_TEXT, 'en')} {phonemes(text, 'en')}"
        prompt = (
            f"user: Convert the text to speech:<|TEXT_PROMPT_START|>{said}<|TEXT_PROMPT_END|>\n"
            "assistant:<|SPEECH_GENERATION_START|>"
            + "".join(f"<|speech_{code}|>" for code in self._reference)
        )
        pieces = [
            (time.perf_counter() - start_s, len(sound))
            for sound in published_stream(self._llama, self._codec, prompt, self._reference)
        ]
        return [Heard(pieces)], time.perf_counter() - start_s

    def told(self) -> dict[str, Any]:
        """Nothing more."""
        return {}


def summary(rounds: list[tuple[list[Heard], float]]) -> dict[str, float]:
    """Medians over rounds; of several callers the slowest one's; the worst stall of all rounds."""
    audio_s = [sum(each.audio_s for each in heard) for heard, _ in rounds]
    return {
        "first_audio_ms": round(
            statistics.median(max(e.first_ms for e in heard) for heard, _ in rounds), 1
        ),
        "first_audio_min_ms": round(min(e.first_ms for heard, _ in rounds for e in heard), 1),
        "rtf": round(
            statistics.median(
                wall / (sound / len(heard))
                for (heard, wall), sound in zip(rounds, audio_s, strict=True)
            ),
            3,
        ),
        "audio_s_per_s": round(
            statistics.median(
                sound / wall for (_, wall), sound in zip(rounds, audio_s, strict=True)
            ),
            3,
        ),
        "worst_stall_ms": round(max(e.worst_stall_ms for heard, _ in rounds for e in heard), 1),
        "median_stall_ms": round(
            statistics.median(max(e.worst_stall_ms for e in heard) for heard, _ in rounds), 1
        ),
        "audio_s": round(statistics.median(audio_s), 2),
    }


def resident_mb() -> int:
    """This process's resident memory (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return round(int(line.split()[1]) / 1024)


def ratios(mine: Sequence[Spoken], theirs: Sequence[Spoken]) -> dict[str, float]:
    """How much sooner and faster, round by round; above 1 is better. The median of all rounds."""
    pairs = list(zip(mine, theirs, strict=True))
    return {
        "first_audio": round(
            statistics.median(b[0][0].first_ms / a[0][0].first_ms for a, b in pairs), 2
        ),
        "rtf": round(statistics.median(b[1] / a[1] for a, b in pairs), 2),
    }


def read_gb_s() -> float:
    """Bytes that one core reads from memory a second, in GB: the best of five passes."""
    block = np.ones(1 << 25, np.float64)
    taken_s = []
    for _ in range(5):
        began_s = time.perf_counter()
        block.max()
        taken_s.append(time.perf_counter() - began_s)
    return round(block.nbytes / min(taken_s) / 1e9, 1)


class Worker(Conversation):
    """A setting in a process of its own, which speaks when it is told to."""

    def __init__(self, name: str, kind: str, folder: Path) -> None:
        super().__init__(worker_command("neutts", name, kind, folder))
        self.found = self.answer()

    def speak(self, callers: int, number: int) -> Spoken:
        """What ``speak`` of the setting gives."""
        answer = self.ask(f"{callers} {number}")
        return [Heard([(at, size) for at, size in each]) for each in answer["heard"]], answer["s"]

    def close(self) -> None:
        """Ask for the rest and end it."""
        self.end()
        self.found |= self.answer()
        super().close()


def work(name: str, kind: str, at: str) -> None:
    """The other end of a ``Worker``."""
    began_s = time.perf_counter()
    speaker = make_speaker(name, kind, Path(at))
    load_s = time.perf_counter() - began_s
    loaded_mb = resident_mb()
    speaker.speak(1, 1)
    tell({"load_s": round(load_s, 2), "resident_loaded_mb": loaded_mb})
    for line in sys.stdin:
        callers, number = map(int, line.split())
        heard, taken_s = speaker.speak(callers, number)
        tell({"heard": [each.pieces for each in heard], "s": taken_s})
    tell({"resident_mb": resident_mb(), **speaker.told()})


def make_speaker(name: str, kind: str, folder: Path) -> Ours | Published:
    """The setting of that name."""
    if kind == "ours":
        return Ours(name, folder)
    if kind == "quickest":
        from vivavoce.engines.neutts.schedule import RAMPS

        return Ours(name, folder, chunks=RAMPS[0], flash_attention=True)
    return Published(name, folder, kind)


def tell(answer: dict[str, Any]) -> None:
    """Say it to who asked."""
    print(json.dumps(answer), flush=True)


def fill_caches(name: str, folder: Path) -> None:
    """The pruned backbone and both graphs of the codec, which are made once."""
    for precision in ("int8", "float32"):
        Ours(name, folder, codec_precision=precision).engine.unload()


def run_model(name: str, folder: Path, rounds: int) -> dict[str, Any]:
    """All settings take turns, so that a machine that slows down slows all of them."""
    make_models(name, folder)
    fill_caches(name, folder)
    workers = {kind: Worker(name, kind, folder) for kind in KINDS}
    alone: dict[str, list[Spoken]] = {kind: [] for kind in KINDS}
    company: dict[int, list[Spoken]] = {1: [], 2: [], 4: []}
    for number in range(rounds):
        for kind, worker in workers.items():
            alone[kind].append(worker.speak(1, number))
        for callers, spoken in company.items():
            spoken.append(workers["ours"].speak(callers, number))
    for worker in workers.values():
        worker.close()
    found = {kind: workers[kind].found | {"callers_1": summary(alone[kind])} for kind in KINDS}
    found["company"] = {f"callers_{n}": summary(spoken) for n, spoken in company.items()}
    found["company"]["throughput_4_to_1"] = round(statistics.median(
        (heard_s(four) / four[1]) / (heard_s(one) / one[1])
        for one, four in zip(company[1], company[4], strict=True)
    ), 2)  # fmt: skip
    for mine in ("ours", "quickest"):
        for theirs in ("float32", "int8"):
            found[f"{mine}_to_{theirs}"] = ratios(alone[mine], alone[theirs])
    return found


def heard_s(spoken: Spoken) -> float:
    """Seconds of sound that all callers heard."""
    return sum(each.audio_s for each in spoken[0])


def options(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    parser.add_argument("--models", type=Path, help="Keep the random models here.")
    parser.add_argument("--only", choices=MODELS)
    parser.add_argument("--rounds", type=int, default=3)


def main(asked: argparse.Namespace) -> Result:
    """Each model beside the usual way of running it."""
    names = [asked.only] if asked.only else list(MODELS)
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.models or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        reads = read_gb_s()
        results = {name: run_model(name, folder, asked.rounds) for name in names}
    print(json.dumps(results, indent=1))
    return Result({"read_gb_s": reads, "results": results})
