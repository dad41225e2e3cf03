"""What every engine promises (``engines/base.py``), asked of every engine that is installed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from vivavoce.engines.base import Engine, Produced
from vivavoce.engines.registry import create_engine
from vivavoce.errors import InputError
from vivavoce.serving.hardware import plain
from vivavoce.types import Samples, Sampling, Span, Utterance

SEED = Sampling(seed=7)
MANY_STEPS = 20_000


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


NEUTTS = ("llama_cpp", "gguf", "onnx", "onnxruntime", "piper")
ENGINES = [
    pytest.param("fake", id="fake"),
    pytest.param(
        "piper",
        id="piper",
        marks=pytest.mark.skipif(
            not _installed("piper"), reason="the extra 'piper' is not installed"
        ),
    ),
    pytest.param(
        "qwen3",
        id="qwen3",
        marks=pytest.mark.skipif(
            not (_installed("torch") and _installed("tokenizers")),
            reason="the extra 'qwen3' is not installed",
        ),
    ),
    pytest.param(
        "neutts",
        id="neutts",
        marks=pytest.mark.skipif(
            not all(map(_installed, NEUTTS)), reason="the extra 'neutts' is not installed"
        ),
    ),
    *(
        pytest.param(
            name,
            id=name,
            marks=[
                pytest.mark.slow,
                pytest.mark.skipif(
                    not all(map(_installed, (*NEUTTS, "torch", "tokenizers"))),
                    reason="the extra 'neutts-torch' is not installed",
                ),
            ],
        )
        for name in ("neutts-gguf-torch", "neutts-torch-onnx", "neutts-torch-torch")
    ),
]
"""NeuTTS once more by what its backbone and its codec run on."""


@pytest.fixture(scope="module", params=ENGINES)
def made_of(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[str, Any]]:
    """Name and options of an engine whose files are here."""
    name, _, runtimes = request.param.partition("-")
    models = {"qwen3": random_model, "neutts": partial(random_neutts, runtimes=runtimes)}
    return name, models[name](tmp_path_factory) if name in models else {}


@pytest.fixture(scope="module")
def loaded(made_of: tuple[str, dict[str, Any]]) -> Iterator[Engine]:
    engine = create_engine(*made_of)
    engine.load()
    yield engine
    engine.unload()


def random_model(folders: pytest.TempPathFactory) -> dict[str, Any]:
    """Options of a tiny random checkpoint.

    When it stops speaking is chance: this one stops after about as long as a person would.
    """
    from vivavoce.testing.random_qwen3 import make_random_checkpoint

    folder = folders.mktemp("qwen3") / "checkpoint"
    name = "Qwen3-TTS-12Hz-0.6B-CustomVoice"
    make_random_checkpoint(name, folder, tiny=True, seed=5, eos_gain=1.3)
    return {"model": str(folder), "device": "cpu", "threads": 1, "positions": 256}


def random_neutts(folders: pytest.TempPathFactory, runtimes: str) -> dict[str, Any]:
    """Options of a tiny random backbone and codec; when it stops is chance, as above.

    ``runtimes``: of backbone and codec, as in "torch-onnx"; "": those of the extra ``neutts``.
    """
    from vivavoce.testing.random_gguf import make_random_gguf
    from vivavoce.testing.random_neucodec import make_random_codec

    folder = folders.mktemp("neutts")
    model = folder / "neutts-nano.gguf"
    backbone, _, codec = (runtimes or "gguf-").partition("-")
    if backbone == "gguf":
        make_random_gguf("neutts-nano", model, small=True, quantization="F32", seed=4, end_every=60)
    else:
        from vivavoce.testing.random_lm import RandomLm, make_random_lm

        model = make_random_lm(
            RandomLm("neutts-nano", True, dtype="F32", end_every=60), folder / "lm"
        )
    options: dict[str, Any] = {"backbone_repo": str(model), "min_tokens": 60}
    if codec:
        options |= {"codec_runtime": codec, "codec_precision": "float32"}
    name = "codec.safetensors" if codec else "codec.onnx"
    options["codec_repo"] = str(make_random_codec(folder / name, tiny=True))
    threads = {"threads": 1, "batch_threads": 1, "codec_threads": 1}
    return options | {"prune": False, "cache_precision": "float32", "context": 768} | threads


@pytest.fixture
def engine(loaded: Engine) -> Iterator[Engine]:
    yield loaded
    for slot in range(loaded.capacity):
        loaded.release(slot)
    assert loaded.step() == []


def utterance(engine: Engine, text: str, deadline_s: float = 0.0) -> Utterance:
    return Utterance((Span(text),), engine.voices()[0], sampling=SEED, deadline_s=deadline_s)


def run(engine: Engine, *slots: int) -> dict[int, list[Produced]]:
    """Step until all the slots have ended."""
    made: dict[int, list[Produced]] = {slot: [] for slot in slots}
    live = set(slots)
    for _ in range(MANY_STEPS):
        if not live:
            return made
        for produced in engine.step():
            assert produced.slot in live, "sound for a slot that has ended or was never taken"
            made[produced.slot].append(produced)
            if produced.last:
                live.remove(produced.slot)
    raise AssertionError("the engine never finished")


def sound(pieces: list[Produced]) -> Samples:
    return np.concatenate([piece.samples for piece in pieces])


def speak(engine: Engine, text: str) -> Samples:
    slot = engine.admit(utterance(engine, text))
    return sound(run(engine, slot)[slot])


CHECKING = """
import json, sys
from vivavoce.engines.registry import create_engine
engine = create_engine(sys.argv[1], json.loads(sys.argv[2]))
before = set(sys.modules)
engine.check_files()
assert engine.voices(), "its voices are known"
assert engine.info.sample_rate_hz >= 8_000
print(" ".join({"torch", "onnxruntime", "llama_cpp"} & (set(sys.modules) - before)))
"""


def test_its_files_are_found_without_loading_anything(
    made_of: tuple[str, dict[str, Any]],
) -> None:
    name, options = made_of
    command = [sys.executable, "-c", CHECKING, name, json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_it_tells_where_it_runs_and_how_its_weights_are_stored(engine: Engine) -> None:
    weights = engine.info.weights
    assert weights, "of every part that has some"
    assert all(stored.precision and stored.why for stored in weights.values())
    gpu = engine.gpu()
    assert (gpu is None) is (engine.info.device == "cpu")
    json.dumps(plain(engine.info.details))


def test_what_it_speaks_is_validated_before_it_is_loaded(
    made_of: tuple[str, dict[str, Any]],
) -> None:
    engine = create_engine(*made_of)
    engine.check_files()
    engine.validate(utterance(engine, "Hello."))
    with pytest.raises(InputError):
        engine.validate(replace(utterance(engine, "Hello."), options={"no_such_option": 1}))


def test_how_much_sound_a_text_can_mean_is_known(engine: Engine) -> None:
    asked = replace(utterance(engine, "Hello."), max_audio_s=3.0)
    assert (engine.longest_audio_s(asked) or 0) >= 3.0
    assert engine.longest_audio_s(replace(asked, max_audio_s=None)) is None


def test_info_is_complete(engine: Engine) -> None:
    info = engine.info
    assert info.name and info.model and info.device
    assert 8_000 <= info.sample_rate_hz <= 48_000
    assert engine.capacity >= 1
    voices = engine.voices()
    assert voices and voices[0].id == (info.default_voice or voices[0].id)
    assert len({voice.id for voice in voices}) == len(voices)
    assert all(voice.engine == info.name for voice in voices)


def test_sound_is_mono_float32_within_full_scale(engine: Engine) -> None:
    slot = engine.admit(utterance(engine, "Hello there."))
    for piece in run(engine, slot)[slot]:
        assert piece.samples.dtype == np.float32
        assert piece.samples.ndim == 1
        assert np.all(np.abs(piece.samples) <= 1.0)


def test_the_last_piece_is_marked_once_and_says_why(engine: Engine) -> None:
    slot = engine.admit(utterance(engine, "Hello there."))
    pieces = run(engine, slot)[slot]
    assert [piece.last for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert pieces[-1].finish_reason == "stop"
    assert all(piece.finish_reason is None for piece in pieces[:-1])


def test_speech_has_a_plausible_length(engine: Engine) -> None:
    seconds = len(speak(engine, "This is a sentence of nine words, or so.")) / (
        engine.info.sample_rate_hz
    )
    assert 1.0 < seconds < 8.0


def test_nothing_to_do_makes_nothing(engine: Engine) -> None:
    assert engine.step() == []


def test_release_silences_a_slot_at_once(engine: Engine) -> None:
    kept = engine.admit(utterance(engine, "This one goes on to its end."))
    dropped = engine.admit(utterance(engine, "This one is cut short, very early on."))
    engine.step()
    engine.release(dropped)
    pieces = run(engine, kept)
    assert pieces[kept][-1].last


def test_release_of_an_unknown_slot_is_ignored(engine: Engine) -> None:
    engine.release(12_345)
    engine.release(-1)


def test_a_freed_slot_can_be_taken_again(engine: Engine) -> None:
    for _ in range(engine.capacity + 3):
        engine.release(engine.admit(utterance(engine, "Cut.")))
    assert len(speak(engine, "Still here.")) > 0


def test_every_slot_of_the_capacity_can_be_used(engine: Engine) -> None:
    count = min(engine.capacity, 8)
    slots = [engine.admit(utterance(engine, f"Caller {n}.")) for n in range(count)]
    assert len(set(slots)) == count
    assert all(len(sound(pieces)) for pieces in run(engine, *slots).values())


def test_company_does_not_alter_an_utterance(engine: Engine) -> None:
    text = "The same words, alone and in company."
    alone = speak(engine, text)
    slots = [engine.admit(utterance(engine, other)) for other in ("One.", text, "And two more.")]
    together = sound(run(engine, *slots)[slots[1]])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_seed_repeats_the_sound(engine: Engine) -> None:
    if not engine.info.capabilities.seed:
        pytest.skip("the engine has no seed")
    np.testing.assert_array_equal(speak(engine, "Once more."), speak(engine, "Once more."))


def test_speed_shortens_the_sound(engine: Engine) -> None:
    if not engine.info.capabilities.speed:
        pytest.skip("the service stretches for this engine")
    usual = utterance(engine, "How quickly is this spoken now?")
    lengths = {}
    for speed in (0.5, 1.0, 2.0):
        slot = engine.admit(replace(usual, speed=speed))
        lengths[speed] = len(sound(run(engine, slot)[slot]))
    assert 1.5 < lengths[0.5] / lengths[1.0] < 2.5
    assert 1.5 < lengths[1.0] / lengths[2.0] < 2.5


def test_a_length_limit_is_honest(engine: Engine) -> None:
    long = utterance(engine, "A sentence that takes rather longer than half a second to say.")
    slot = engine.admit(replace(long, max_audio_s=0.5))
    pieces = run(engine, slot)[slot]
    assert pieces[-1].finish_reason == "length"
    assert len(sound(pieces)) <= 0.5 * engine.info.sample_rate_hz + 1


@pytest.mark.parametrize("text", ["…", "?", "-", "(", "'"])
def test_text_without_words_ends_well(engine: Engine, text: str) -> None:
    slot = engine.admit(utterance(engine, text))
    last = run(engine, slot)[slot][-1]
    assert last.error is None and last.finish_reason == "stop"


def test_an_unknown_option_is_named(engine: Engine) -> None:
    with pytest.raises(InputError) as caught:
        engine.validate(replace(utterance(engine, "Hello."), options={"no_such_option": 1}))
    assert caught.value.param is not None and "no_such_option" in caught.value.param


def test_it_can_be_unloaded_and_loaded_again(engine: Engine) -> None:
    before = speak(engine, "Hello.")
    engine.unload()
    engine.load()
    assert len(speak(engine, "Hello.")) == pytest.approx(len(before), rel=0.5)
