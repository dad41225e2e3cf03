"""Repositories and paths: what is loaded from the files that are published, and what is fetched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runtime.hub_server import HubServer
from vivavoce.engines.neutts import loading, models
from vivavoce.engines.neutts.family import BACKBONES, CODECS, published_backbone
from vivavoce.engines.neutts.models import (
    BACKBONE,
    CODEC,
    ENCODER,
    FoundBackbone,
    any_backbone_files,
    backbone_at,
    expected_kind,
    find_files,
    locate,
    locate_backbone,
    torch_files,
)
from vivavoce.engines.neutts.options import NeuTTSOptions
from vivavoce.engines.neutts.published import download_model, local_models, published_name
from vivavoce.errors import MissingExtra, ModelFileError, SettingsError, UnknownModel

OTHER = ("README.md", ".gitattributes")
TOKENIZER = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
             "special_tokens_map.json")  # fmt: skip
QWEN_TOKENIZER = (*TOKENIZER, "vocab.json", "merges.txt", "added_tokens.json")

NANOS = ("neutts-nano", "neutts-nano-german", "neutts-nano-french", "neutts-nano-spanish")
PUBLISHED: dict[str, dict[str, int]] = {
    "neutts-air": {"model.safetensors": 1_495_893_752, "neutss-air-BF16.gguf": 1_503_776_000}
    | dict.fromkeys(QWEN_TOKENIZER, 1),
    "neutts-air-q4-gguf": {"neutts-air-Q4_0.gguf": 527_054_304},
    "neutts-air-q8-gguf": {"neutts-air-Q8_0.gguf": 802_658_528},
    **{name: {"model.safetensors": 914_843_656} | dict.fromkeys(TOKENIZER, 1) for name in NANOS},
    **{
        f"{name}-q{bits}-gguf": {f"{name}-Q{bits}_0.gguf": size}
        for name in NANOS
        for bits, size in ((4, 194_600_640), (8, 252_744_384))
    },
    "neutts-2e": {"model.safetensors": 1} | dict.fromkeys(TOKENIZER, 1),
    "neutts-2e-q4-gguf": {"neutts-2e-Q4_0.gguf": 1},
    "neutts-2e-q8-gguf": {"neutts-2e-Q8_0.gguf": 1},
    "neucodec": {"pytorch_model.bin": 2_519_855_456, "meta.yaml": 1},
    "distill-neucodec": {"pytorch_model.bin": 1, "meta.yaml": 1},
    "neucodec-onnx-decoder": {"model.onnx": 782_565_930},
    "neucodec-onnx-decoder-int8": {"model.onnx": 312_292_102},
}
"""Every published repository: its files, and their sizes in bytes (1 where it is not known)."""

LOADED = {
    "torch": lambda names: {"model.safetensors", *TOKENIZER, *QWEN_TOKENIZER} & names,
    "gguf": lambda names: {name for name in names if name.endswith(".gguf")},
}


def publish(hub: HubServer, name: str, **more: bytes) -> str:
    """A repository with the published names; what is in the files is their name."""
    names = (*PUBLISHED[name], *OTHER)
    hub.publish(f"neuphonic/{name}", {each: each.encode() for each in names} | more)
    return f"neuphonic/{name}"


def options(tmp_path: Path, backbone: str, **more: Any) -> NeuTTSOptions:
    return NeuTTSOptions(backbone_repo=backbone, models_dir=tmp_path / "models", **more)


def test_the_list_has_every_repository_of_the_catalog() -> None:
    cataloged = {each.repo for each in (*BACKBONES, *CODECS)}
    assert {f"neuphonic/{name}" for name in PUBLISHED} == cataloged
    assert len(BACKBONES) == 18


@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda each: each.repo)
def test_a_published_backbone_fetches_what_it_loads_and_nothing_else(
    hub_server: HubServer, tmp_path: Path, backbone: Any
) -> None:
    name = backbone.repo.removeprefix("neuphonic/")
    found = locate_backbone(options(tmp_path, publish(hub_server, name)))
    assert found.kind == backbone.kind
    expected = LOADED[backbone.kind](set(PUBLISHED[name]))
    assert set(hub_server.fetched) == expected
    size_bytes = sum(PUBLISHED[name][each] for each in expected if PUBLISHED[name][each] > 1)
    if backbone.weights_bytes:
        assert size_bytes == backbone.weights_bytes
    assert found.path == tmp_path / "models" / f"neuphonic--{name}" / (
        "" if found.kind == "torch" else next(iter(expected))
    )


@pytest.mark.parametrize("codec", CODECS, ids=lambda each: each.repo)
def test_a_published_codec_fetches_its_weights_alone(
    hub_server: HubServer, tmp_path: Path, codec: Any
) -> None:
    name = codec.repo.removeprefix("neuphonic/")
    weights = next(iter(PUBLISHED[name]))
    folder = locate(publish(hub_server, name), tmp_path, CODEC)
    assert hub_server.fetched == [weights]
    assert codec.weights_bytes in (0, PUBLISHED[name][weights])
    if codec.encodes:
        assert locate(codec.repo, tmp_path, ENCODER) == folder
        assert hub_server.fetched == [weights]


def test_air_runs_in_pytorch_unless_something_else_is_said(
    hub_server: HubServer, tmp_path: Path
) -> None:
    air = publish(hub_server, "neutts-air")
    folder = tmp_path / "models" / "neuphonic--neutts-air"
    assert locate_backbone(options(tmp_path, air)) == FoundBackbone(folder, "torch")
    found = locate_backbone(options(tmp_path, air, backbone_runtime="llama.cpp"))
    assert found == FoundBackbone(folder / "neutss-air-BF16.gguf", "gguf")
    assert hub_server.fetched.count("model.safetensors") == 1
    # With both of them in the folder, too.
    assert locate_backbone(options(tmp_path, air)).kind == "torch"
    assert locate_backbone(options(tmp_path, str(folder))).kind == "torch"
    assert locate_backbone(options(tmp_path, str(found.path))).kind == "gguf"


def test_a_folder_that_an_earlier_version_filled_is_found(
    hub_server: HubServer, tmp_path: Path
) -> None:
    folder = tmp_path / "models" / "neuphonic--neutts-air"
    folder.mkdir(parents=True)
    names = [*PUBLISHED["neutts-air"]]
    for name in names:
        (folder / name).touch()
    record = {"repo": "neuphonic/neutts-air", "revision": "abc", "files": names}
    (folder / "vivavoce.json").write_text(json.dumps(record))
    assert locate_backbone(options(tmp_path, "neuphonic/neutts-air")).path == folder
    assert hub_server.asked == []


def test_a_runtime_that_a_repository_has_nothing_for(hub_server: HubServer, tmp_path: Path) -> None:
    nano = publish(hub_server, "neutts-nano")
    with pytest.raises(ModelFileError, match="holds no GGUF backbone"):
        locate_backbone(options(tmp_path, nano, backbone_runtime="llama.cpp"))
    q4 = publish(hub_server, "neutts-nano-q4-gguf")
    with pytest.raises(ModelFileError, match="holds no safetensors backbone"):
        locate_backbone(options(tmp_path, q4, backbone_runtime="torch"))
    assert hub_server.fetched == []


def test_any_other_repository_is_known_by_its_files(hub_server: HubServer, tmp_path: Path) -> None:
    both = dict.fromkeys(PUBLISHED["neutts-air"], b"x")
    hub_server.publish("me/tuned", both)
    assert locate_backbone(options(tmp_path, "me/tuned")).kind == "torch"
    hub_server.publish("me/small", {"a.gguf": b"x", "config.json": b"{}"})
    assert locate_backbone(options(tmp_path, "me/small")).kind == "gguf"
    hub_server.publish("me/many", {"a.gguf": b"x", "b.gguf": b"x"})
    with pytest.raises(ModelFileError, match=r"several GGUF files; name one of them: a\.gguf, b"):
        locate_backbone(options(tmp_path, "me/many"))


def test_nothing_is_written_beside_a_file_of_the_clients_cache(
    hub_server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    monkeypatch.setenv("VIVAVOCE_CACHE_DIR", str(tmp_path / "cache"))
    repo = publish(hub_server, "neutts-air-q4-gguf")
    huggingface_hub.snapshot_download(repo, endpoint=hub_server.endpoint)
    found = locate_backbone(options(tmp_path, repo))
    assert hub_server.fetched.count("neutts-air-Q4_0.gguf") == 1
    assert (tmp_path / "hub-cache") in found.path.parents
    assert loading._folder_for_copies(found.path) == tmp_path / "cache" / "neutts"
    assert loading._folder_for_copies(tmp_path / "own.gguf") is None


def test_shards_are_one_set_or_none() -> None:
    small = ["config.json", "tokenizer.json"]
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = "model.safetensors.index.json"
    assert torch_files([*small, index, *shards]) == [index, *shards, *small]
    assert torch_files([*small, index, shards[0]]) == []
    assert torch_files([index, *shards]) == []
    assert any_backbone_files([*small, index, shards[0], "a.gguf", "a.pruned.gguf"]) == ["a.gguf"]


def test_a_commit_can_be_named(hub_server: HubServer, tmp_path: Path) -> None:
    first = hub_server.publish("neuphonic/neutts-nano-q4-gguf", {"a.gguf": b"first"})
    second = hub_server.publish("neuphonic/neutts-nano-q4-gguf", {"a.gguf": b"second"})
    for commit, content in ((first, b"first"), (second, b"second")):
        found = locate_backbone(options(tmp_path, f"neuphonic/neutts-nano-q4-gguf@{commit}"))
        assert found.path.read_bytes() == content
    known = published_backbone(f"neuphonic/neutts-nano-q4-gguf@{first}")
    assert known is not None and known.kind == "gguf"


def test_what_cannot_be_run_is_not_fetched(
    hub_server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "find_spec", lambda _: None)
    for name, extra in (("neutts-air", "neutts-torch"), ("neutts-air-q4-gguf", "neutts")):
        with pytest.raises(MissingExtra, match=f"'{extra}'"):
            loading.open_backbone(options(tmp_path, publish(hub_server, name)))
    assert hub_server.asked == []


@pytest.mark.parametrize(
    ("backbone", "runtime", "kind"),
    [
        ("neuphonic/neutts-air", "auto", "torch"),
        ("neuphonic/neutts-air", "llama.cpp", "gguf"),
        ("neuphonic/neutts-air-q4-gguf", "auto", "gguf"),
        ("neuphonic/neutts-air-q4-gguf", "torch", "torch"),
        ("me/other", "auto", None),
        ("some/file.gguf", "auto", "gguf"),
    ],
)
def test_the_kind_that_is_known_beforehand(
    tmp_path: Path, backbone: str, runtime: Any, kind: str | None
) -> None:
    assert expected_kind(options(tmp_path, backbone, backbone_runtime=runtime)) == kind


@pytest.mark.parametrize("name", ["nowhere/at/all", "missing.gguf", "./gone", "a/b.gguf"])
def test_what_is_neither_path_nor_repository(name: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="neither"):
        locate(name, tmp_path, BACKBONE)


def test_a_folder_with_several_files_is_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").touch()
    (tmp_path / "a.pruned.gguf").touch()
    assert backbone_at(tmp_path, None) == FoundBackbone(tmp_path / "a.gguf", "gguf")
    (tmp_path / "b.gguf").touch()
    with pytest.raises(ModelFileError, match=r"b\.gguf"):
        backbone_at(tmp_path, None)


def test_paths_without_a_backbone(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no safetensors and no GGUF file"):
        backbone_at(tmp_path, None)
    (tmp_path / "a.gguf").touch()
    with pytest.raises(ModelFileError, match="holds no safetensors"):
        backbone_at(tmp_path, "torch")
    with pytest.raises(SettingsError, match="needs a folder with safetensors"):
        backbone_at(tmp_path / "a.gguf", "torch")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ModelFileError, match="no GGUF file and no folder"):
        backbone_at(tmp_path / "notes.txt", None)


def test_what_was_downloaded_is_found_and_what_was_not_is_not_fetched(
    hub_server: HubServer, tmp_path: Path
) -> None:
    chosen = options(
        tmp_path, publish(hub_server, "neutts-nano-q4-gguf"),
        codec_repo=publish(hub_server, "neucodec-onnx-decoder"),
    )  # fmt: skip
    with pytest.raises(ModelFileError, match=r"backbone .* is not on this machine.*preload_model"):
        find_files(chosen)
    assert hub_server.asked == []
    locate_backbone(chosen)
    with pytest.raises(ModelFileError, match=r"codec .* is not on this machine"):
        find_files(chosen)
    locate(chosen.codec_repo, models.models_root(chosen), CODEC)
    find_files(chosen)
    with pytest.raises(SettingsError, match="neither"):
        find_files(options(tmp_path, "missing.gguf"))


def test_the_list_of_models_and_a_download_by_name(hub_server: HubServer, tmp_path: Path) -> None:
    publish(hub_server, "neutts-nano-q4-gguf")
    assert {local.folder for local in local_models(tmp_path)} == {None}
    folder = download_model("neutts-nano-q4-gguf", tmp_path)
    here = {local.name: local for local in local_models(tmp_path) if local.folder}
    (local,) = here.values()
    assert (local.name, local.folder) == ("neuphonic/neutts-nano-q4-gguf", folder)
    assert local.verified
    assert len(local_models(tmp_path)) == 22
    with pytest.raises(UnknownModel, match="neuphonic/neutts-air"):
        download_model("neutts-mega", tmp_path)


def test_names_of_published_models() -> None:
    assert published_name("neutts-air") == published_name("Neuphonic/NeuTTS-Air")
    assert published_name("neucodec") == "neuphonic/neucodec"
    assert published_name(f"neutts-air@{'a' * 40}") == f"neuphonic/neutts-air@{'a' * 40}"
    assert published_name("neutts-air@main") is None
    assert published_name("Qwen3-TTS-12Hz-0.6B-Base") is None
