"""Voices on disk and in the public collection."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.hub_server import HubServer
from vivavoce.engines.piper.cut_voice import cut_files, read_cut
from vivavoce.engines.piper.engine import PiperEngine
from vivavoce.engines.piper.model import VoiceModel, load_model
from vivavoce.engines.piper.options import PiperOptions, Scales
from vivavoce.engines.piper.voice_files import (
    VoiceFiles,
    download_voice,
    is_voice_name,
    packaged_voice,
)
from vivavoce.errors import MissingExtra, ModelFileError, SettingsError, UnknownVoice
from vivavoce.runtime.derived_files import file_sha256
from vivavoce.types import Sampling, Span, Utterance


def packaged() -> VoiceFiles:
    files = packaged_voice()
    assert files is not None
    return files


def put_voice(folder: Path, name: str, **changes: Any) -> Path:
    """The packaged model under another name, its configuration altered."""
    raw = json.loads(packaged().config.read_text(encoding="utf-8"))
    (folder / f"{name}.onnx.json").write_text(json.dumps(raw | changes), encoding="utf-8")
    (folder / f"{name}.onnx").symlink_to(packaged().model)
    return folder / f"{name}.onnx"


def test_a_damaged_voice_is_refused_with_both_sums(tmp_path: Path) -> None:
    spoiled = tmp_path / "spoiled.onnx"
    spoiled.write_bytes(b"not the model")
    files = dataclasses.replace(packaged(), model=spoiled)
    with pytest.raises(ModelFileError) as caught:
        load_model(files, PiperOptions(cache_dir=tmp_path))
    assert files.sha256 in caught.value.message
    assert hashlib.sha256(b"not the model").hexdigest() in caught.value.message


def test_a_file_that_is_no_voice_is_a_model_error(tmp_path: Path) -> None:
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"\xff\xff\xff junk")
    with pytest.raises(ModelFileError), cut_files(junk, "0" * 64, tmp_path):
        pass


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"num_speakers": "x"}'])
def test_a_wrong_configuration_is_a_model_error(tmp_path: Path, text: str) -> None:
    model = put_voice(tmp_path, "odd")
    model.with_name("odd.onnx.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelFileError, match="odd"):
        PiperEngine(PiperOptions(model=model, cache_dir=tmp_path)).load()


def test_phonemes_that_cannot_be_made_are_a_model_error(tmp_path: Path) -> None:
    model = put_voice(tmp_path, "zh", phoneme_type="pinyin")
    with pytest.raises(ModelFileError, match="pinyin"):
        PiperEngine(PiperOptions(model=model, cache_dir=tmp_path)).load()


def test_the_cut_is_kept_and_used_again(model: VoiceModel, cache_dir: Path) -> None:
    (folder,) = (cache_dir / "piper").iterdir()
    made_at_ns = (folder / "cut.json").stat().st_mtime_ns
    with cut_files(packaged().model, packaged().sha256, cache_dir) as cut:
        assert cut.folder == folder
        assert (cut.hop_samples, cut.decoder_radius_frames) == (256, model.decoder_radius_frames)
    assert (folder / "cut.json").stat().st_mtime_ns == made_at_ns


@pytest.mark.parametrize(
    "damage",
    [
        "truncated",
        pytest.param("cut.json", marks=pytest.mark.slow),
        pytest.param("missing", marks=pytest.mark.slow),
    ],
)
def test_a_damaged_cut_is_made_anew(
    model: VoiceModel, cache_dir: Path, tmp_path: Path, damage: str
) -> None:
    shutil.copytree(cache_dir, tmp_path, dirs_exist_ok=True)
    (folder,) = (tmp_path / "piper").iterdir()
    match damage:
        case "truncated":
            (folder / "decoder.onnx").write_bytes(b"short")
        case "cut.json":
            (folder / "cut.json").write_text("{", encoding="utf-8")
        case _:
            (folder / "flow.onnx").unlink()
    assert read_cut(folder, packaged().sha256) is None
    with cut_files(packaged().model, packaged().sha256, tmp_path) as cut:
        assert cut.folder == folder
        assert file_sha256(cut.path("decoder")) == file_sha256(
            next((cache_dir / "piper").iterdir()) / "decoder.onnx"
        )


def test_a_cache_that_cannot_be_written_is_worked_around(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder", encoding="utf-8")
    with (
        caplog.at_level(logging.WARNING),
        cut_files(packaged().model, packaged().sha256, blocked) as cut,
    ):
        assert cut.path("encoder").is_file()
        temporary = cut.folder
    assert not temporary.exists()
    assert "cannot be kept" in caplog.text


def test_voices_of_a_folder_load_when_used(cache_dir: Path, tmp_path: Path) -> None:
    put_voice(tmp_path, "second")
    put_voice(tmp_path, "third", audio={"sample_rate": 16_000})
    engine = PiperEngine(
        PiperOptions(cache_dir=cache_dir, voices_dir=tmp_path, loaded_voices=2, workers=1)
    )
    engine.load()
    assert [voice.id for voice in engine.voices()] == ["en_US-joe-medium", "second", "third"]
    lengths = []
    for voice in engine.voices():
        slot = engine.admit(Utterance((Span("Hello."),), voice, sampling=Sampling(seed=1)))
        pieces = []
        while not pieces or not pieces[-1].last:
            pieces.extend(engine.step())
        assert {piece.slot for piece in pieces} == {slot}
        lengths.append(sum(len(piece.samples) for piece in pieces))
    assert engine._shelf.loaded() == ["second", "third"]
    # The third voice's sound is converted to the engine's own rate.
    assert lengths[0] == lengths[1]
    assert lengths[2] == round(lengths[0] * 22_050 / 16_000)
    engine.unload()


def test_a_default_voice_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="en_GB-alan-low"):
        PiperEngine(PiperOptions(voice="en_GB-alan-low", cache_dir=tmp_path)).load()
    with pytest.raises(SettingsError, match="does not exist"):
        PiperEngine(PiperOptions(voices_dir=tmp_path / "none")).load()
    with pytest.raises(ModelFileError, match="does not exist"):
        PiperEngine(PiperOptions(model=tmp_path / "none.onnx")).load()


# -- several speakers -----------------------------------------------------------------------


def with_speakers(path: Path) -> Path:
    """The packaged voice with a speaker's bias on the decoder, as exports of many speakers have."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(str(packaged().model))
    graph = model.graph
    # Exports of one speaker give the unused name to a weight.
    for weight in graph.initializer:
        weight.name = "sid_weight" if weight.name == "sid" else weight.name
    for node in graph.node:
        node.input[:] = ["sid_weight" if name == "sid" else name for name in node.input]
    channels = 4
    weights = {
        "emb_g": np.array([[0.0] * channels, [0.5] * channels], np.float32),
        "cond_w": np.random.default_rng(0).normal(size=(256, channels, 1)).astype(np.float32),
        "g_axis": np.array([-1], np.int64),
    }
    graph.initializer.extend(numpy_helper.from_array(each, name) for name, each in weights.items())
    graph.input.append(helper.make_tensor_value_info("sid", onnx.TensorProto.INT64, ["batch"]))
    at = next(i for i, node in enumerate(graph.node) if node.name == "/dec/conv_pre/Conv")
    made = graph.node[at].output[0]
    graph.node[at].output[0] = "conv_pre_alone"
    for node in reversed(
        [
            helper.make_node("Gather", ["emb_g", "sid"], ["g_flat"]),
            helper.make_node("Unsqueeze", ["g_flat", "g_axis"], ["g"]),
            helper.make_node("Conv", ["g", "cond_w"], ["cond"], kernel_shape=[1]),
            helper.make_node("Add", ["conv_pre_alone", "cond"], [made]),
        ]
    ):
        graph.node.insert(at + 1, node)
    onnx.save(model, str(path))
    return path


def test_speakers_of_one_voice(model: VoiceModel, tmp_path: Path) -> None:
    import onnxruntime as ort

    path = with_speakers(tmp_path / "duo.onnx")
    raw = json.loads(packaged().config.read_text(encoding="utf-8"))
    raw |= {"num_speakers": 2, "speaker_id_map": {"ann": 0, "bob": 1}}
    (tmp_path / "duo.onnx.json").write_text(json.dumps(raw), encoding="utf-8")
    engine = PiperEngine(
        PiperOptions(model=path, voice="duo#bob", cache_dir=tmp_path / "cache", workers=1)
    )
    engine.load()
    assert [voice.id for voice in engine.voices()][:2] == ["duo#bob", "duo#ann"]
    assert engine.info.voice_aliases == {"duo": "duo#bob"}
    with pytest.raises(UnknownVoice):
        engine._shelf.speaker("duo#eve")
    duo = engine._shelf.model("duo")
    ids = [1, 0, 20, 0, 120, 0, 59, 0, 24, 0, 10, 0, 2]
    whole = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = {"input": np.array([ids]), "input_lengths": np.array([len(ids)])}
    feed["scales"] = np.array([0, 1, 0], np.float32)
    sounds = []
    for speaker in (0, 1):
        encoded = duo.encode(ids, Scales(0, 0, 1), speaker, np.zeros((2, len(ids)), np.float32))
        prior = np.repeat(encoded.mean, encoded.durations, axis=1)
        sounds.append(duo.decode(duo.flow(prior, speaker), speaker))
        expected = whole.run(None, feed | {"sid": np.array([speaker])})[0].reshape(-1)
        assert np.abs(sounds[-1] - expected).max() <= 1e-4
    assert np.abs(sounds[0] - sounds[1]).max() > 0.01
    engine.unload()


REPO = "rhasspy/piper-voices"
NAME = "en_GB-test-low"
PLACE = f"en/en_GB/test/low/{NAME}"

Publish = Callable[[bytes], None]


@pytest.fixture
def publish(hub_server: HubServer) -> Publish:
    def published(model: bytes) -> None:
        files = {f"{PLACE}.onnx": model, f"{PLACE}.onnx.json": b"{}", "de/other.onnx": b"other"}
        hub_server.publish(REPO, files)

    return published


def test_a_checked_voice_is_put_in_place(
    hub_server: HubServer, publish: Publish, tmp_path: Path
) -> None:
    publish(b"model")
    files = download_voice(NAME, tmp_path / "voices", REPO)
    assert hashlib.sha256(files.model.read_bytes()).digest() == hashlib.sha256(b"model").digest()
    left = [path.name for path in (tmp_path / "voices").iterdir() if path.suffix != ".lock"]
    assert sorted(left) == [f"{NAME}.onnx", f"{NAME}.onnx.json"]
    assert "de/other.onnx" not in hub_server.fetched


def test_a_damaged_voice_is_refused(
    hub_server: HubServer, publish: Publish, tmp_path: Path
) -> None:
    publish(b"model")
    hub_server.damaged = {f"{PLACE}.onnx"}
    with pytest.raises(ModelFileError, match="SHA-256"):
        download_voice(NAME, tmp_path, REPO)
    assert not list(tmp_path.glob("*.onnx"))


def test_downloads_that_cannot_work_say_why(
    hub_server: HubServer, publish: Publish, tmp_path: Path
) -> None:
    publish(b"model")
    with pytest.raises(ModelFileError, match="holds no voice en_GB-nobody-low"):
        download_voice("en_GB-nobody-low", tmp_path, REPO)
    with pytest.raises(SettingsError, match="not a voice name"):
        download_voice("../../etc/passwd", tmp_path, REPO)
    hub_server.refusals = {f"{PLACE}.onnx": 1}
    with pytest.raises(ModelFileError, match="503"):
        download_voice(NAME, tmp_path, REPO)
    with pytest.raises(ModelFileError, match="no repository me/none"):
        download_voice(NAME, tmp_path, "me/none")


def test_the_default_voice_is_downloaded_when_allowed(publish: Publish, tmp_path: Path) -> None:
    packaged = packaged_voice()
    assert packaged is not None
    publish(packaged.model.read_bytes()[:100])
    options = PiperOptions(voice=NAME, download=True, cache_dir=tmp_path)
    with pytest.raises(ModelFileError, match="not a Piper voice configuration"):
        PiperEngine(options).load()
    assert (tmp_path / "piper" / "voices" / f"{NAME}.onnx").is_file()


def test_without_the_client_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match="'hub'"):
        download_voice(NAME, tmp_path, REPO)


def test_names_of_voices() -> None:
    assert is_voice_name("en_GB-alba-medium")
    assert not is_voice_name("neuphonic/neutts-air")
    assert not is_voice_name("Qwen3-TTS-12Hz-0.6B-Base")
