"""Downloads against a repository made of local files: the real one is never asked."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import httpx
import huggingface_hub
import pytest
from huggingface_hub import file_download
from huggingface_hub.errors import LocalEntryNotFoundError

from vivavoce.engines.qwen3 import hub
from vivavoce.engines.qwen3.catalogue import CODEC_SHA256, CODEC_WEIGHTS, MODELS, published
from vivavoce.engines.qwen3.checkpoint import WEIGHTS, open_checkpoint
from vivavoce.engines.qwen3.engine import Qwen3Engine
from vivavoce.engines.qwen3.hub import download_model, find_model, local_models, sha256_of
from vivavoce.engines.qwen3.options import Qwen3Options
from vivavoce.errors import ModelFileError, UnknownModel

Make = Callable[[str], Path]
PREFIX = "Qwen3-TTS-12Hz-"
NAME = f"{PREFIX}0.6B-CustomVoice"
OTHER = f"{PREFIX}1.7B-CustomVoice"


class FakeHub:
    """Answers as huggingface_hub does, from tiny checkpoints; ``faults`` raise once, by file."""

    def __init__(self, made: Make) -> None:
        self.made = made
        self.fetched: list[tuple[str, int]] = []
        self.revisions: set[str] = set()
        self.faults: dict[str, Exception] = {}
        self.damaged: set[str] = set()
        self.tells_sums = True

    def _file(self, repo: str, file: str) -> Path:
        return self.made(repo.removeprefix(f"Qwen/{PREFIX}")) / file

    def hf_hub_download(
        self, *, repo_id: str, filename: str, revision: str, local_dir: Path
    ) -> str:
        if filename in self.faults:
            raise self.faults.pop(filename)
        target = Path(local_dir) / filename
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._file(repo_id, filename), target)
        self.revisions.add(revision)
        return str(target)

    def http_get(
        self, *, url: str, temp_file: BinaryIO, resume_size: int, expected_size: int
    ) -> None:
        repo, file, revision = url.split("|")
        data = self._file(repo, file).read_bytes()
        assert len(data) == expected_size
        if file in self.damaged:
            data = data[:-1] + b"?"
        self.fetched.append((file, resume_size))
        if file in self.faults:
            temp_file.write(data[resume_size : expected_size // 2])
            raise self.faults.pop(file)
        temp_file.write(data[resume_size:])
        self.revisions.add(revision)

    def hf_hub_url(self, repo: str, file: str, *, revision: str) -> str:
        return f"{repo}|{file}|{revision}"

    def get_hf_file_metadata(self, *, url: str) -> Any:
        repo, file, _ = url.split("|")
        path = self._file(repo, file)
        known = sha256_of(path) if self.tells_sums else "0" * 40
        return SimpleNamespace(etag=known, size=path.stat().st_size, location=url)


@pytest.fixture
def fake_hub(tiny_checkpoint: Make, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    """The repositories hold tiny checkpoints, and the catalogue knows their codec's sum."""
    fake = FakeHub(tiny_checkpoint)
    for name in ("hf_hub_download", "hf_hub_url", "get_hf_file_metadata"):
        monkeypatch.setattr(huggingface_hub, name, getattr(fake, name))
    monkeypatch.setattr(file_download, "http_get", fake.http_get)
    codec = sha256_of(tiny_checkpoint("0.6B-CustomVoice") / CODEC_WEIGHTS)
    monkeypatch.setattr(
        hub, "published", lambda name: replace(published(name), sha256={CODEC_WEIGHTS: codec})
    )
    return fake


def _sum(root: Path, name: str, file: str) -> str:
    record = json.loads((root / name / hub.RECORD).read_text("utf-8"))
    return str(record["sha256"][file])


def test_a_download_is_whole_pinned_and_verified(fake_hub: FakeHub, tmp_path: Path) -> None:
    folder = download_model(NAME, tmp_path)
    assert folder == tmp_path / NAME == find_model(NAME, tmp_path)
    open_checkpoint(folder)
    assert fake_hub.revisions == {published(NAME).revision}
    assert _sum(tmp_path, NAME, WEIGHTS) == sha256_of(folder / WEIGHTS)
    listed = {local.model.name: local for local in local_models(tmp_path)}
    assert listed[NAME].verified
    assert listed[NAME].folder == folder
    assert listed[OTHER].folder is None


def test_a_download_names_what_it_fetches_and_its_bytes_before_it_begins(
    fake_hub: FakeHub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fake_hub.faults = {"config.json": OSError("no network")}
    with pytest.raises(ModelFileError):
        download_model(NAME, tmp_path)
    told = caplog.records[0]
    assert told.levelname == "WARNING", "shown at a terminal, too"
    assert f"Qwen/{NAME}" in told.message
    assert f"{published(NAME).download_bytes / 1e9:.1f} GB" in told.message
    assert not fake_hub.fetched


def test_what_is_here_is_not_asked_for_again(fake_hub: FakeHub, tmp_path: Path) -> None:
    download_model(NAME, tmp_path)
    fake_hub.faults = {"config.json": httpx.ConnectError("no network")}
    fake_hub.fetched.clear()
    assert download_model(f"Qwen/{NAME}", tmp_path) == tmp_path / NAME
    assert fake_hub.fetched == []


def test_the_codec_is_fetched_and_kept_once(fake_hub: FakeHub, tmp_path: Path) -> None:
    for name in (NAME, OTHER):
        download_model(name, tmp_path)
    assert fake_hub.fetched.count((CODEC_WEIGHTS, 0)) == 1
    first, second = (tmp_path / name / CODEC_WEIGHTS for name in (NAME, OTHER))
    assert first.samefile(second)


def test_a_damaged_shared_codec_is_replaced(fake_hub: FakeHub, tmp_path: Path) -> None:
    download_model(NAME, tmp_path)
    (kept,) = (tmp_path / hub.SHARED).iterdir()
    kept.unlink()
    kept.write_bytes(b"something else")
    folder = download_model(OTHER, tmp_path)
    assert sha256_of(folder / CODEC_WEIGHTS) == kept.stem == sha256_of(kept)


def test_a_disk_without_hard_links(
    fake_hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    download_model(NAME, tmp_path)
    open_checkpoint(download_model(OTHER, tmp_path))
    assert fake_hub.fetched.count((CODEC_WEIGHTS, 0)) == 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (httpx.ConnectError("name or service not known"), "name or service not known"),
        (LocalEntryNotFoundError("cannot find the requested files"), "cannot find the requested"),
        (ConnectionError("offline mode is enabled"), "offline mode"),
        (RuntimeError("transfer failed"), "transfer failed"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_broken_download_goes_on(
    fake_hub: FakeHub, tmp_path: Path, fault: Exception, message: str
) -> None:
    fake_hub.faults = {WEIGHTS: fault}
    with pytest.raises(ModelFileError, match=message) as caught:
        download_model(NAME, tmp_path)
    assert f"Qwen/{NAME}" in caught.value.message
    assert local_models(tmp_path)[1].folder is None
    with pytest.raises(ModelFileError, match="models download"):
        find_model(NAME, tmp_path)
    before = list(fake_hub.fetched)
    folder = download_model(NAME, tmp_path)
    assert fake_hub.fetched == [*before, (WEIGHTS, (folder / WEIGHTS).stat().st_size // 2)]
    assert not list(folder.rglob("*.part"))


@pytest.mark.parametrize("file", [WEIGHTS, CODEC_WEIGHTS])
def test_a_file_with_another_sum_is_removed(fake_hub: FakeHub, tmp_path: Path, file: str) -> None:
    fake_hub.damaged = {file}
    with pytest.raises(ModelFileError, match="SHA-256"):
        download_model(NAME, tmp_path)
    assert not (tmp_path / NAME / file).exists()
    kept = list((tmp_path / hub.SHARED).glob("*"))
    assert len(kept) == (file == WEIGHTS)
    fake_hub.damaged = set()
    open_checkpoint(download_model(NAME, tmp_path))


def test_without_a_published_sum_it_is_not_called_verified(
    fake_hub: FakeHub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fake_hub.tells_sums = False
    download_model(NAME, tmp_path)
    assert not local_models(tmp_path)[1].verified
    assert "not checked" in caplog.text


def test_a_full_disk_is_seen_before(
    fake_hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    with pytest.raises(ModelFileError, match=r"needs 2\.5 GB more .* where 1\.0 GB"):
        download_model(NAME, tmp_path)
    assert fake_hub.fetched == []


def test_names(tmp_path: Path) -> None:
    assert find_model(tmp_path, tmp_path) == tmp_path
    for ask in (find_model, download_model):
        with pytest.raises(UnknownModel, match=r"1\.7B-VoiceDesign"):
            ask("Qwen3-TTS-12Hz-0.6B-VoiceDesign", tmp_path)


def test_a_changed_file_is_found(fake_hub: FakeHub, tmp_path: Path) -> None:
    folder = download_model(NAME, tmp_path)
    assert all("as published" in said for said in hub.compare_sums(folder).values())
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS).write_bytes(data)
    with pytest.raises(ModelFileError, match=r"model\.safetensors has changed"):
        hub.compare_sums(folder)


def test_a_local_folder_is_not_held_to_published_sums(tiny_checkpoint: Make) -> None:
    said = hub.compare_sums(tiny_checkpoint("0.6B-CustomVoice"))
    assert all("nothing published" in text for text in said.values())


def test_the_catalogue() -> None:
    assert len({model.name for model in MODELS}) == 5
    for model in MODELS:
        assert len(model.revision) == 40
        assert model.sha256 == {CODEC_WEIGHTS: CODEC_SHA256}
        assert len(CODEC_SHA256) == hub.SUM_DIGITS


def test_an_engine_finds_its_files_and_fetches_none(fake_hub: FakeHub, tmp_path: Path) -> None:
    engine = Qwen3Engine(Qwen3Options(model=NAME, models_dir=tmp_path))
    assert list(engine.voices()) == []
    with pytest.raises(ModelFileError, match="models download"):
        engine.check_files()
    assert fake_hub.fetched == []
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
