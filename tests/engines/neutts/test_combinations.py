"""The engine on every pair of runtimes: llama.cpp or PyTorch, and ONNX Runtime or PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.hub_server import HubServer
from vivavoce.engines.neutts.backbone import Backbone
from vivavoce.engines.neutts.engine import NeuTTSEngine
from vivavoce.engines.neutts.loading import open_backbone, open_codec
from vivavoce.engines.neutts.options import NeuTTSOptions
from vivavoce.engines.neutts.voices import ReferenceVoice, cloned_voice
from vivavoce.errors import EngineError, SettingsError
from vivavoce.types import Samples, Sampling, Span, Utterance, Voice

NEEDED = ("llama_cpp", "gguf", "onnx", "onnxruntime", "piper", "torch", "tokenizers", "safetensors")
if missing := [name for name in NEEDED if find_spec(name) is None]:
    pytest.skip(f"for want of {', '.join(missing)}", allow_module_level=True)

PAIRS = [
    pytest.param(("gguf", "torch"), id="gguf-torch"),
    pytest.param(("torch", "torch"), id="torch-torch"),
    pytest.param(("gguf", "onnx"), id="gguf-onnx", marks=pytest.mark.slow),
    pytest.param(("torch", "onnx"), id="torch-onnx", marks=pytest.mark.slow),
]
LONG = {"max_codes": 60, "min_tokens": 60, "guards": False}
CODES = 60
MANY_STEPS = 5_000


@dataclass(frozen=True)
class Models:
    """Tiny models in a folder, with one voice."""

    folder: Path

    def options(self, backbone: str, codec: str, **more: Any) -> NeuTTSOptions:
        path = self.folder / ("backbone.gguf" if backbone == "gguf" else "backbone")
        given: dict[str, Any] = {
            "backbone_repo": str(path),
            "codec_repo": str(self.folder / "codec.safetensors"),
            "codec_runtime": codec,
            "codec_precision": "float32",
            "voices_dir": self.folder / "voices",
            "encoder_repo": "",
            "prune": False,
            "min_tokens": 20,
            "cache_precision": "float32",
            "context": 384,
            "chunks": (8, 15, 25),
            "threads": 1,
            "batch_threads": 1,
            "codec_threads": 1,
        }
        return NeuTTSOptions(**given | more)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    from vivavoce.testing.random_gguf import make_random_gguf
    from vivavoce.testing.random_lm import RandomLm, make_random_lm
    from vivavoce.testing.random_neucodec import make_random_codec

    folder = tmp_path_factory.mktemp("combined")
    make_random_gguf(
        "neutts-nano", folder / "backbone.gguf", small=True, quantization="F32", end_every=2
    )
    make_random_lm(RandomLm("neutts-nano", True, dtype="F32", end_every=2), folder / "backbone")
    for name in ("codec.safetensors", "codec.onnx"):
        make_random_codec(folder / name, tiny=True)
    (folder / "voices").mkdir()
    np.save(folder / "voices" / "someone.npy", np.arange(30) * 100)
    (folder / "voices" / "someone.txt").write_text("What was said.")
    return Models(folder)


@contextmanager
def speaking(options: NeuTTSOptions) -> Iterator[NeuTTSEngine]:
    engine = NeuTTSEngine(options)
    engine.load()
    try:
        yield engine
    finally:
        engine.unload()


@pytest.fixture(scope="module", params=PAIRS)
def paired(request: pytest.FixtureRequest, models: Models) -> Iterator[NeuTTSEngine]:
    with speaking(models.options(*request.param)) as engine:
        yield engine


def admit(engine: NeuTTSEngine, text: str, voice: Voice | None = None) -> int:
    spans, seed = (Span(text),), Sampling(seed=5)
    said = Utterance(spans, voice or engine.voices()[0], sampling=seed, options=LONG)
    return engine.admit(said)


def run(engine: NeuTTSEngine, *slots: int) -> dict[int, Samples]:
    heard: dict[int, list[Samples]] = {slot: [] for slot in slots}
    live = set(slots)
    for _ in range(MANY_STEPS):
        for piece in engine.step():
            assert piece.error is None
            heard[piece.slot].append(piece.samples)
            if piece.last:
                live.discard(piece.slot)
        if not live:
            return {slot: np.concatenate(pieces) for slot, pieces in heard.items()}
    raise AssertionError("the engine never finished")


def speak(
    engine: NeuTTSEngine, text: str = "Hello there.", voice: Voice | None = None
) -> tuple[list[int], Samples]:
    slot = admit(engine, text, voice)
    codes = engine.record(slot)
    return codes, run(engine, slot)[slot]


def test_it_speaks_every_code(paired: NeuTTSEngine) -> None:
    codes, sound = speak(paired)
    assert len(codes) == CODES
    assert sound.shape == (CODES * 480,) and 0.01 < sound.std() < 0.5


def test_callers_in_company_say_what_they_say_alone(paired: NeuTTSEngine) -> None:
    texts = ("The first caller.", "And the second one.", "Three.")
    alone = [speak(paired, text) for text in texts]
    slots = [admit(paired, text) for text in texts]
    recorded = [paired.record(slot) for slot in slots]
    together = run(paired, *slots)
    for (codes, sound), slot, again in zip(alone, slots, recorded, strict=True):
        assert again == codes
        np.testing.assert_allclose(together[slot], sound, atol=1e-4)


@pytest.mark.parametrize("steps", [0, 4, 30])
def test_who_leaves_takes_nobody_along(paired: NeuTTSEngine, steps: int) -> None:
    kept, dropped = admit(paired, "This one stays."), admit(paired, "This one goes.")
    for _ in range(steps):
        paired.step()
    paired.release(dropped)
    run(paired, kept)
    assert paired.step() == []
    slots = [admit(paired, f"Number {n}.") for n in range(paired.capacity)]
    assert all(len(sound) == CODES * 480 for sound in run(paired, *slots).values())


def test_a_voice_alters_what_is_said(paired: NeuTTSEngine) -> None:
    state = ReferenceVoice(np.arange(40, dtype=np.int32) * 7, "Something else.", "en")
    other = cloned_voice(state, "en")
    kept = paired.voice_from_bytes(paired.voice_to_bytes(other))
    assert [voice.id for voice in paired.voices()] == ["someone"]
    own, cloned = speak(paired)[0], speak(paired, voice=other)[0]
    assert own != cloned == speak(paired, voice=cloned_voice(kept, "en"))[0]


def test_it_tells_what_each_part_runs_on(paired: NeuTTSEngine) -> None:
    options, told = paired.options, paired.info.details
    assert told["devices"] == {"backbone": "cpu", "codec": "cpu"}
    runtimes = {"onnx": "onnxruntime", "torch": "torch"}
    assert told["codec_runtime"] == runtimes[options.codec_runtime]
    assert told["codec_precision"] == "float32"
    gguf = options.backbone_repo.endswith(".gguf")
    assert (told.get("backbone_runtime") == "llama.cpp") is gguf
    assert ("backbone_torch" in told) is not gguf


@pytest.mark.parametrize("backbone", ["gguf", "torch"])
def test_the_same_codes_sound_the_same_from_both_codecs(models: Models, backbone: str) -> None:
    said = []
    for codec in ("onnx", "torch"):
        with speaking(models.options(backbone, codec)) as engine:
            said.append(speak(engine, "The very same words."))
    (codes, sound), (again, other) = said
    assert codes == again
    np.testing.assert_allclose(sound, other, atol=1e-4)


@pytest.mark.parametrize("pair", [("gguf", "torch"), ("torch", "torch")], ids="-".join)
def test_doctor_tells_the_devices(models: Models, pair: tuple[str, str], tmp_path: Path) -> None:
    from vivavoce.cli.doctor import engine_findings as diagnose
    from vivavoce.settings import Settings

    options = models.options(*pair)
    fields = {name: getattr(options, name) for name in options.__dataclass_fields__}
    usual = NeuTTSOptions()
    changed = {name: value for name, value in fields.items() if value != getattr(usual, name)}
    settings = Settings(engine="neutts", neutts=changed, data_dir=tmp_path)
    used = diagnose(settings)[0]
    assert "backbone on cpu, codec on cpu" in used.summary
    assert used.facts["details"]["codec_runtime"] == "torch"


def test_a_repository_of_both_speaks_in_pytorch_and_fetches_that_alone(
    models: Models, hub_server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """neuphonic/neutts-air holds a GGUF beside its safetensors, and is meant for PyTorch."""
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1 << 20)
    names = ("config.json", "tokenizer.json", "model.safetensors")
    files = {name: (models.folder / "backbone" / name).read_bytes() for name in names}
    gguf = (models.folder / "backbone.gguf").read_bytes()
    hub_server.publish("neuphonic/neutts-air", files | {"neutss-air-BF16.gguf": gguf})
    options = models.options(
        "torch", "torch", backbone_repo="neuphonic/neutts-air", models_dir=tmp_path
    )
    with speaking(options) as engine:
        assert engine.info.details["backbone_runtime"] == "torch"
        assert len(speak(engine)[0]) == CODES
    assert sorted(hub_server.fetched) == sorted(names)
    with speaking(replace(options, backbone_runtime="llama.cpp")) as engine:
        assert engine.info.details["backbone_runtime"] == "llama.cpp"
        assert engine.info.details["backbone_file"] == "neutss-air-BF16.gguf"


class Kept:
    """Opens backbones, and keeps them to be looked at."""

    def __init__(self) -> None:
        self.opened: list[Backbone] = []

    def __call__(self, options: NeuTTSOptions) -> Backbone:
        self.opened.append(open_backbone(options))
        return self.opened[-1]


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.mark.skipif(_cuda(), reason="there is a CUDA device")
@pytest.mark.parametrize("runtime", ["auto", "onnx", "torch"])
def test_a_codec_on_a_missing_device_is_an_error_and_leaves_nothing(
    models: Models, runtime: str
) -> None:
    options = models.options("gguf", runtime, codec_device="cuda")
    kept = Kept()
    engine = NeuTTSEngine(options, kept)
    with pytest.raises(SettingsError, match="CUDA") as caught:
        engine.load()
    assert caught.value.param == "codec_device"
    assert not engine.info.details["loaded"] and engine.step() == []
    with pytest.raises(EngineError, match="not loaded"):
        _ = kept.opened[0].vocabulary


@pytest.mark.skipif(_cuda(), reason="there is a CUDA device")
@pytest.mark.parametrize("backbone", ["gguf", "torch"])
def test_a_backbone_on_a_missing_device_is_an_error(models: Models, backbone: str) -> None:
    engine = NeuTTSEngine(models.options(backbone, "onnx", backbone_device="cuda"))
    with pytest.raises(SettingsError, match="backbone") as caught:
        engine.load()
    assert caught.value.param == "backbone_device"
    assert not engine.info.details["loaded"]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_int8_weights_in_pytorch_are_refused_with_a_hint(models: Models, device: str) -> None:
    """Before anything is fetched, and whether the device is there or not."""
    options = models.options("torch", "onnx", backbone_device=device, quantize="int8")
    with pytest.raises(SettingsError, match="bfloat16") as caught:
        open_backbone(options)
    assert caught.value.param == "quantize"


def test_int8_weights_stop_no_gguf(models: Models) -> None:
    assert open_backbone(models.options("gguf", "onnx", quantize="int8")).capacity >= 1


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"codec_repo": "codec.onnx"}, "codec_runtime"),
        ({"codec_precision": "int8"}, "codec_precision"),
        ({"codec_precision": "int8-layers"}, "codec_precision"),
    ],
)
def test_what_pytorch_cannot_decode_is_refused(
    models: Models, more: dict[str, str], param: str
) -> None:
    if "codec_repo" in more:
        more = {"codec_repo": str(models.folder / more["codec_repo"])}
    with pytest.raises(SettingsError) as caught:
        open_codec(models.options("gguf", "torch", **more))
    assert caught.value.param == param


@pytest.mark.parametrize("precision", ["int8", "int8-layers", "float32"])
def test_a_precision_is_what_the_codec_says_it_has(models: Models, precision: str) -> None:
    codec = open_codec(models.options("gguf", "onnx", codec_precision=precision))
    assert codec.details["precision"] == precision  # type: ignore[attr-defined]
    codec.close()


def test_pytorchs_threads_are_left_to_a_backbone_in_it(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    open_codec(models.options("gguf", "torch", codec_threads=3)).close()
    assert asked == [3]
    open_codec(models.options("torch", "torch", codec_threads=3)).close()
    assert asked == [3]
