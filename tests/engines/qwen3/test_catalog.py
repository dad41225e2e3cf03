"""Published models by name, from a hub that holds tiny checkpoints."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.hub_server import HubServer
from vivavoce.engines.qwen3 import catalog
from vivavoce.engines.qwen3.catalog import (
    CODEC_SHA256,
    CODEC_WEIGHTS,
    MODELS,
    compare_sums,
    download_model,
    find_model,
    local_models,
    model_files,
    published,
)
from vivavoce.engines.qwen3.checkpoint import WEIGHTS, open_checkpoint
from vivavoce.engines.qwen3.engine import Qwen3Engine
from vivavoce.engines.qwen3.options import Qwen3Options
from vivavoce.errors import ModelFileError, UnknownModel
from vivavoce.runtime.hub import names_in, sha256_of
from vivavoce.runtime.hub_record import RECORD

Make = Callable[[str], Path]
PREFIX = "Qwen3-TTS-12Hz-"
NAME = f"{PREFIX}0.6B-CustomVoice"
OTHER = f"{PREFIX}1.7B-CustomVoice"
BASE = f"{PREFIX}0.6B-Base"

SMALL = ("config.json", "generation_config.json", "merges.txt", "preprocessor_config.json",
         "tokenizer_config.json", "vocab.json", "speech_tokenizer/config.json",
         "speech_tokenizer/configuration.json",
         "speech_tokenizer/preprocessor_config.json")  # fmt: skip
LISTED = (*SMALL, WEIGHTS, CODEC_WEIGHTS, "README.md", ".gitattributes")
"""The files of each of the five published repositories."""


@pytest.fixture
def tiny_hub(
    hub_server: HubServer, tiny_checkpoint: Make, monkeypatch: pytest.MonkeyPatch
) -> HubServer:
    """Two of the repositories, tiny; the catalog pins their commits and knows their codec."""
    commits = {}
    for name in (NAME, OTHER):
        folder = tiny_checkpoint(name.removeprefix(PREFIX))
        files = {each: (folder / each).read_bytes() for each in names_in(folder)}
        commits[name] = hub_server.publish(f"Qwen/{name}", files | {"README.md": b"#"})
    codec = sha256_of(tiny_checkpoint("0.6B-CustomVoice") / CODEC_WEIGHTS)
    monkeypatch.setattr(catalog, "CODEC_SHA256", codec)
    pinned = tuple(
        replace(model, revision=commits.get(model.name, model.revision)) for model in MODELS
    )
    monkeypatch.setattr(catalog, "MODELS", pinned)
    by_name = {model.name: model for model in pinned}
    monkeypatch.setattr(catalog, "published", lambda name: by_name[published(name).name])
    return hub_server


def test_a_download_is_whole_pinned_and_verified(tiny_hub: HubServer, tmp_path: Path) -> None:
    tiny_hub.publish(f"Qwen/{NAME}", {"config.json": b"a newer one"})
    folder = download_model(NAME, tmp_path)
    assert folder == tmp_path / NAME == find_model(NAME, tmp_path)
    open_checkpoint(folder)
    assert "README.md" not in names_in(folder)
    listed = {local.name: local for local in local_models(tmp_path)}
    assert listed[NAME].verified
    assert listed[NAME].folder == folder
    assert listed[OTHER].folder is None


def test_what_is_here_is_not_asked_for_again(tiny_hub: HubServer, tmp_path: Path) -> None:
    download_model(NAME, tmp_path)
    asked = list(tiny_hub.asked)
    assert download_model(f"Qwen/{NAME}", tmp_path) == tmp_path / NAME
    assert tiny_hub.asked == asked


def test_a_folder_that_an_earlier_version_filled_is_found(
    tiny_hub: HubServer, tmp_path: Path, tiny_checkpoint: Make
) -> None:
    folder = shutil.copytree(tiny_checkpoint("0.6B-CustomVoice"), tmp_path / NAME)
    model = next(model for model in catalog.MODELS if model.name == NAME)
    sums = {file: sha256_of(folder / file) for file in (WEIGHTS, CODEC_WEIGHTS)}
    told = {"repo": model.repo, "revision": model.revision, "sha256": sums}
    (folder / RECORD).write_text(json.dumps(told))
    assert download_model(NAME, tmp_path) == folder
    assert tiny_hub.asked == []
    assert local_models(tmp_path)[1].verified


def test_the_codec_is_fetched_and_kept_once(tiny_hub: HubServer, tmp_path: Path) -> None:
    for name in (NAME, OTHER):
        download_model(name, tmp_path)
    assert tiny_hub.fetched.count(CODEC_WEIGHTS) == 1
    first, second = (tmp_path / name / CODEC_WEIGHTS for name in (NAME, OTHER))
    assert first.samefile(second)


def test_a_broken_download_is_none(tiny_hub: HubServer, tmp_path: Path) -> None:
    tiny_hub.refusals = {WEIGHTS: 1}
    with pytest.raises(ModelFileError, match="goes on from there"):
        download_model(NAME, tmp_path)
    with pytest.raises(ModelFileError, match="models download"):
        find_model(NAME, tmp_path)
    open_checkpoint(download_model(NAME, tmp_path))


def test_the_files_of_the_published_repositories() -> None:
    assert set(model_files(LISTED)) == {*SMALL, WEIGHTS, CODEC_WEIGHTS}
    for name in SMALL:
        rest = [each for each in LISTED if each != name]
        assert bool(model_files(rest)) == (name in catalog.EXTRA_FILES)


def test_names(tmp_path: Path) -> None:
    assert find_model(tmp_path, tmp_path) == tmp_path
    for ask in (find_model, download_model):
        with pytest.raises(UnknownModel, match=r"1\.7B-VoiceDesign"):
            ask("Qwen3-TTS-12Hz-0.6B-VoiceDesign", tmp_path)


def test_a_changed_file_is_found(tiny_hub: HubServer, tmp_path: Path) -> None:
    folder = download_model(NAME, tmp_path)
    said = compare_sums(folder)
    assert all("as published" in said[file] for file in (WEIGHTS, CODEC_WEIGHTS))
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS).write_bytes(data)
    with pytest.raises(ModelFileError, match=r"model\.safetensors has changed"):
        compare_sums(folder)


def test_a_local_folder_is_compared_but_not_held_to_published_sums(tiny_checkpoint: Make) -> None:
    said = compare_sums(tiny_checkpoint("0.6B-CustomVoice"))
    assert "nothing published" in said[WEIGHTS]
    assert f"not the published file, which has {CODEC_SHA256}" in said[CODEC_WEIGHTS]
    assert "as published" in next(text for files, text in said.items() if "vocab.json" in files)
    assert "not the published file, which has: 81aca2b6…7455" in said["config.json"]
    base = compare_sums(tiny_checkpoint("0.6B-Base"))
    assert "which has 180b3b10" in base[WEIGHTS]


def test_what_was_downloaded_is_held_to_published_sums(
    tiny_hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = download_model(NAME, tmp_path)
    told = json.loads((folder / RECORD).read_text())
    (folder / RECORD).write_text(json.dumps(told | {"sha256": {}}))  # as it was once, unchecked
    monkeypatch.setattr(catalog, "CODEC_SHA256", CODEC_SHA256)
    with pytest.raises(ModelFileError, match=f"{CODEC_WEIGHTS} .* was {CODEC_SHA256}"):
        compare_sums(folder)


def test_the_small_files_sums_are_those_of_the_published_files(qwen3_data: Path) -> None:
    for name, digest in catalog.SMALL_SUMS.items():
        assert sha256_of(qwen3_data / "checkpoint_files" / name) == digest


def test_the_catalog() -> None:
    assert len({model.name for model in MODELS}) == 5
    for model in MODELS:
        assert len(model.revision) == 40
        assert model.sha256[CODEC_WEIGHTS] == CODEC_SHA256
        assert {len(digest) for digest in model.sha256.values()} == {64}
    assert published(BASE).sha256[WEIGHTS].startswith("180b3b10eb1c9f1b")
    assert published(BASE).weights_bytes == 1_829_344_272


def test_an_engine_finds_its_files_and_fetches_none(tiny_hub: HubServer, tmp_path: Path) -> None:
    engine = Qwen3Engine(Qwen3Options(model=NAME, models_dir=tmp_path))
    assert list(engine.voices()) == []
    with pytest.raises(ModelFileError, match="models download"):
        engine.check_files()
    assert tiny_hub.asked == []
    folder = download_model(NAME, tmp_path)
    engine.check_files()
    assert engine.voices()
    (folder / WEIGHTS).unlink()
    with pytest.raises(ModelFileError):
        engine.check_files()


def test_a_folder_that_lacks_a_file_names_it(tiny_checkpoint: Make, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tiny_checkpoint("0.6B-CustomVoice"), folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(ModelFileError, match=r"lacks model\.safetensors"):
        Qwen3Engine(Qwen3Options(model=folder)).check_files()
