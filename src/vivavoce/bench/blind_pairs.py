"""Pairs of the same words from whole and from quantized weights, to be compared by ear, blind.

The sound files say nothing of which is which; ``key.json`` does.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from vivavoce.bench.device import provenance
from vivavoce.errors import InputError, SettingsError

if TYPE_CHECKING:
    from vivavoce.speech.synthesizer import SpeechParameters

KEY = "key.json"
WHOLE = "none"
SIDES = ("a", "b")

TEXTS = (
    "Good morning, you have reached the front desk, how can I help you?",
    "Your parcel left our warehouse yesterday and should be with you on Thursday.",
    "I am sorry to hear that. Shall I put you through to somebody who can fix it?",
    "Platform four, a quarter past nine, and please mind the gap!",
    "She sells sea shells by the sea shore, sixty-six of them every summer.",
    "Well, I never thought it would work, but here we are.",
    "The balance is one thousand two hundred and eighty-four dollars and fifty cents.",
    "No, no, no. Take the second turning on the left, then straight on.",
)


class Speaker(Protocol):
    """What ``vivavoce.load`` returns, as far as it is used here."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *_: object) -> None: ...


Load = Callable[..., Speaker]


@dataclass(frozen=True, slots=True)
class Order:
    """What is spoken: each of ``texts`` with ``seed`` plus its number. ``how`` goes to both."""

    engine: str
    options: Mapping[str, Any]
    quantize: str = "int8"
    texts: Sequence[str] = TEXTS
    seed: int = 0
    how: SpeechParameters | None = None


def write_pairs(
    order: Order,
    folder: Path,
    *,
    load: Load | None = None,
    shuffle: random.Random | None = None,
    on_spoken: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Speak everything with whole and with quantized weights, one engine after the other.

    Writes ``pair-01-a.wav``, ``pair-01-b.wav``, … and ``key.json``, which is also returned.
    ``load`` is ``vivavoce.load``; ``shuffle`` decides which of a pair is which. Raises InputError
    for a folder that has anything in it or no texts, SettingsError for an engine without
    ``quantize`` or without seeds, and what loading and speaking raise.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is no new or empty folder.", param="folder")
    if not order.texts:
        raise InputError("There is nothing to say.", param="text")
    spoken, engines = {}, {}
    # The quantized engine first: one that has no such weights is then found out at once.
    for precision in (order.quantize, WHOLE):
        with _loaded(order, precision, load) as synthesizer:
            _check(order, precision, synthesizer)
            engines[precision] = _told(synthesizer)
            spoken[precision] = list(_speak(order, synthesizer, on_spoken))
    folder.mkdir(parents=True, exist_ok=True)
    pairs = list(_write(order, spoken, folder, shuffle or random.SystemRandom()))
    key = provenance() | {"seed": order.seed, "engines": engines, "pairs": pairs}
    (folder / KEY).write_text(json.dumps(key, indent=1) + "\n", "utf-8")
    return key


def _loaded(order: Order, precision: str, load: Load | None) -> Speaker:
    if load is None:
        import vivavoce

        load = vivavoce.load
    try:
        return load(order.engine, **{**order.options, "quantize": precision})
    except SettingsError as error:
        if error.param != "quantize":
            raise
        raise SettingsError(
            f"The engine {order.engine!r} cannot be compared with quantize={precision!r}: "
            f"{error.message}",
            param="quantize",
        ) from error


def _check(order: Order, precision: str, synthesizer: Any) -> None:
    info = synthesizer.info
    if not info.capabilities.seed:
        raise SettingsError(f"The engine {order.engine!r} has no seeds to speak alike from.")
    used = info.details.get("quantize", precision)
    if used != precision:
        raise SettingsError(f"quantize={precision!r} was asked for, {used!r} is used.")


def _told(synthesizer: Any) -> dict[str, Any]:
    info = synthesizer.info
    plain = (str, int, float, bool)
    details = {name: value for name, value in info.details.items() if isinstance(value, plain)}
    return {"engine": info.name, "model": info.model, "device": info.device, "details": details}


def _speak(order: Order, synthesizer: Any, on_spoken: Callable[[], None] | None) -> Iterator[Any]:
    for number, text in enumerate(order.texts):
        yield synthesizer.synthesize(text, seed=order.seed + number, **(order.how or {}))
        if on_spoken is not None:
            on_spoken()


def _write(
    order: Order, spoken: Mapping[str, Sequence[Any]], folder: Path, shuffle: random.Random
) -> Iterator[dict[str, Any]]:
    """In the order of their names, so that the files' times tell nothing either."""
    for number, text in enumerate(order.texts):
        precisions = shuffle.sample(list(spoken), len(SIDES))
        files, sounds = {}, []
        for side, precision in zip(SIDES, precisions, strict=True):
            sound = spoken[precision][number]
            name = f"pair-{number + 1:02d}-{side}.wav"
            sound.save(folder / name)
            files[name] = {"quantize": precision, "seconds": round(sound.duration_s, 2)}
            sounds.append(sound.samples)
        same = bool(np.array_equal(*sounds))
        yield {"text": text, "seed": order.seed + number, "same_samples": same, "files": files}
