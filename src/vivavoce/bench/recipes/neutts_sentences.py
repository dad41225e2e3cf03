"""Several sentences in one request to NeuTTS, beside another checkout of vivavoce:
``vivavoce bench recipe neutts_sentences``.

The same random weights of true size are spoken through the whole of the Python interface by this
checkout and by the one in FOLDER, each in a process of its own; they take turns, text by text and
round by round, and a ratio is the median of the rounds' ratios. Random weights never end a sentence
by themselves, so a prompt gets as many codes as its text asks for at 15 characters a second: the
same sound for the same text, in however many prompts it is made. Reference of 3.5 s; both begin
with the smallest pieces, so that what each measured of a busy machine makes no difference.

``cpu_s`` is what all threads together computed, which a busy machine alters less than the time it
took, least of all with ``--threads 1``, where none waits for another. ``worst_stall_ms`` is the
longest gap of a playback that begins with the first chunk. ``prompts`` is how many prompts a text
was made of, ``read_s`` how long they took to read.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .neutts import Heard, make_models, read_gb_s
from .turns import Conversation, Result, commit_of, environment_for, worker_command

MODEL = "neutts-nano"
CHARS_PER_S = 15
CODES_PER_S = 50
PATIENCE_S = 3_600.0
TEXTS = {
    "six sentences of a call": (
        "Thank you for calling the clinic on Mill Road. "
        "Your appointment has been moved to Tuesday. "
        "Doctor Lee will see you at half past nine. "
        "Please bring the letter from your own doctor. "
        "The car park behind the house is free. "
        "Would you like me to send you a message about it?"
    ),
    "six longer sentences": (
        "The quick brown fox jumps over the lazy dog while the band plays on all night. "
        "Your appointment with the doctor has been moved to Tuesday at half past nine. "
        "Please hold the line while I look for the order that you placed last week. "
        "The next train to the airport leaves in ten minutes from platform number two. "
        "All of our lines are busy at the moment and somebody will be with you soon. "
        "You can also write to us at any time and we will answer on the next day."
    ),
    "one sentence": "Your appointment with the doctor has been moved to Tuesday at half past nine.",
}


class Speaker:
    """The engine behind the Python interface of whichever checkout this process has."""

    def __init__(self, folder: Path, threads: int) -> None:
        from vivavoce.engines.neutts import engine as room
        from vivavoce.engines.neutts.options import NeuTTSOptions
        from vivavoce.engines.neutts.schedule import RAMPS
        from vivavoce.speech.service import ServiceOptions, SpeechService
        from vivavoce.speech.stream import StreamLimits
        from vivavoce.speech.synthesizer import Synthesizer

        prompts = self.prompts = [0]

        class Measured(room.NeuTTSEngine):
            """Makes as many codes as a text asks for, without guards."""

            def admit(self, utterance: Any) -> int:
                prompts[0] += 1
                codes = round(len(utterance.text) / CHARS_PER_S * CODES_PER_S)
                said = {"max_codes": codes, "guards": False}
                return super().admit(replace(utterance, options=said))

        options = NeuTTSOptions(
            backbone_repo=str(folder / f"{MODEL}.gguf"),
            codec_repo=str(folder / "codec.safetensors"),
            voices_dir=folder / "voices",
            chunks=RAMPS[0],
            threads=threads,
            batch_threads=threads,
            codec_threads=threads,
        )
        limits = StreamLimits(request_timeout_s=PATIENCE_S)
        service = SpeechService(Measured(options), ServiceOptions(cache_entries=0, limits=limits))
        self._synthesizer = Synthesizer(service)
        self._lift_limits()

    def _lift_limits(self) -> None:
        """A length of its own is no failure here, although the request does not set one."""
        from vivavoce.speech import pipeline

        pipeline.ClausePipeline._check_length = lambda *_: None  # type: ignore[method-assign]

    def speak(self, text: str, seed: int) -> dict[str, Any]:
        """What was heard, and when."""
        self.prompts[0] = 0
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        pieces: list[tuple[float, int]] = []
        with self._synthesizer.stream(text, seed=seed) as chunks:
            for chunk in chunks:
                if len(chunk.samples):
                    pieces.append((time.perf_counter() - began_s, len(chunk.samples)))
        heard, taken_s = Heard(pieces), time.perf_counter() - began_s
        return {
            "first_audio_ms": round(heard.first_ms, 1),
            "worst_stall_ms": round(heard.worst_stall_ms, 1),
            "audio_s": round(heard.audio_s, 2),
            "wall_s": round(taken_s, 2),
            "audio_s_per_s": round(heard.audio_s / taken_s, 3),
            "cpu_s": round(time.process_time() - began_cpu_s, 2),
            "prompts": self.prompts[0],
            "read_s": round(chunks.timings.stages_ms.get("prefill", 0.0) / 1000, 2),
        }


def work(folder: str, threads: str) -> None:
    """The other end of a conversation."""
    speaker = Speaker(Path(folder), int(threads))
    speaker.speak(TEXTS["one sentence"], 0)
    print("{}", flush=True)
    for line in sys.stdin:
        text, seed = json.loads(line)
        print(json.dumps(speaker.speak(text, seed)), flush=True)


def compare(
    base: Path, folder: Path, rounds: int, names: Sequence[str], threads: int
) -> dict[str, Any]:
    """Both checkouts, turn by turn, over the texts of these names."""
    command = worker_command("neutts_sentences", folder, threads)
    workers = {
        which: Conversation(command, os.environ | environment_for(checkout))
        for which, checkout in {"this": None, "base": base}.items()
    }
    for worker in workers.values():
        worker.answer()
    found: dict[str, dict[str, list[dict[str, Any]]]] = {
        name: {which: [] for which in workers} for name in names
    }
    for number in range(rounds):
        order = list(workers) if number % 2 == 0 else list(reversed(workers))
        for name in names:
            text = TEXTS[name]
            for which in order:
                spoken = workers[which].ask(json.dumps([text, number + 1]))
                print(name, which, spoken, file=sys.stderr)
                found[name][which].append(spoken)
    for worker in workers.values():
        worker.close()
    return {name: summary(found[name]) for name in names}


def summary(rounds: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians of each figure, and of the rounds' ratios: above 1 is better."""
    mine, theirs = rounds["this"], rounds["base"]
    medians: dict[str, Any] = {
        which: {
            name: round(statistics.median(each[name] for each in spoken), 3) for name in spoken[0]
        }
        for which, spoken in rounds.items()
    }
    for which, spoken in rounds.items():
        medians[which]["worst_stall_ms_of_all"] = max(each["worst_stall_ms"] for each in spoken)
    pairs = list(zip(mine, theirs, strict=True))
    return medians | {
        "sound_a_second": _median(a["audio_s_per_s"] / b["audio_s_per_s"] for a, b in pairs),
        "cpu": _median(b["cpu_s"] / a["cpu_s"] for a, b in pairs),
        "first_audio": _median(b["first_audio_ms"] / a["first_audio_ms"] for a, b in pairs),
        "rounds": rounds,
    }


def _median(values: Iterable[float]) -> float:
    return round(statistics.median(values), 3)


def options(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    parser.add_argument(
        "--before", type=Path, required=True, help="another checkout, measured beside this one"
    )
    parser.add_argument("--models", type=Path, help="Keep the random models here.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--text", action="append", choices=TEXTS, help="This one; repeatable.")
    help_text = "Of each part; 0 is the engine's choice."
    parser.add_argument("--threads", type=int, default=0, help=help_text)


def main(asked: argparse.Namespace) -> Result:
    """Both checkouts in turns."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.models or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        make_models(MODEL, folder)
        names = asked.text or list(TEXTS)
        reads = read_gb_s()
        results = compare(asked.before, folder, asked.rounds, names, asked.threads)
    print(json.dumps(results, indent=1))
    where = {"base": commit_of(asked.before), "read_gb_s": reads}
    return Result(where | {"results": {MODEL: results}})
