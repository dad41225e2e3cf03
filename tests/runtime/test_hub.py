"""Downloads with the real client from a hub on this machine."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from runtime.hub_server import HubServer
from vivavoce.errors import ModelFileError
from vivavoce.runtime import hub
from vivavoce.runtime.hub_record import RECORD, read_record

REPO = "maker/model"
A = {"model.gguf": b"A" * 6000, "config.json": b'{"version": "A"}', "README.md": b"#"}
B = {"model.gguf": b"B" * 5000, "config.json": b'{"version": "B"}', "README.md": b"#"}
WANTED = ["config.json", "model.gguf"]


def chosen(names: Sequence[str]) -> list[str]:
    return WANTED if set(WANTED) <= set(names) else []


def wanted(tmp_path: Path, revision: str = "") -> hub.Repository:
    return hub.Repository(REPO, tmp_path / "models" / "maker--model", "model", chosen, revision)


def held(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in WANTED}


def of(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: files[name] for name in WANTED}


def test_what_is_wanted_is_fetched_once(hub_server: HubServer, tmp_path: Path) -> None:
    commit = hub_server.publish(REPO, A)
    folder = hub.fetch(wanted(tmp_path))
    assert folder == tmp_path / "models" / "maker--model"
    assert held(folder) == of(A)
    assert not (folder / "README.md").exists()
    record = read_record(folder)
    assert record is not None
    assert (record.repo, record.revision, record.files) == (REPO, commit, tuple(WANTED))
    assert record.sha256 == {"model.gguf": hub.sha256_of(folder / "model.gguf")}
    asked = list(hub_server.asked)
    assert hub.fetch(wanted(tmp_path)) == hub.find(wanted(tmp_path)) == folder
    assert hub_server.asked == asked


def test_it_says_what_it_fetches_and_its_bytes_before_it_begins(
    hub_server: HubServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hub_server.publish(REPO, A)
    hub_server.refusals = {"model.gguf": 1}
    with pytest.raises(ModelFileError):
        hub.fetch(wanted(tmp_path))
    told = caplog.records[0]
    assert told.levelname == "WARNING", "shown at a terminal, too"
    size_bytes = sum(len(data) for data in of(A).values())
    for part in (REPO, hub_server.endpoint, f"2 files, {size_bytes:,} bytes"):
        assert part in told.message


def test_a_broken_download_goes_on(hub_server: HubServer, tmp_path: Path) -> None:
    hub_server.publish(REPO, A)
    hub_server.cuts, hub_server.refusals = {"model.gguf": 1000}, {"model.gguf": 1}
    with pytest.raises(ModelFileError, match="goes on from there"):
        hub.fetch(wanted(tmp_path))
    assert hub.find(wanted(tmp_path)) is None
    assert held(hub.fetch(wanted(tmp_path))) == of(A)
    begun = [at for name, at in hub_server.ranges if name == "model.gguf"]
    assert begun == ["", "bytes=1000-", "bytes=1000-"]


def test_a_part_of_another_version_is_no_part_of_this_one(
    hub_server: HubServer, tmp_path: Path
) -> None:
    """A file that broke off at version A must not go on with the bytes of version B."""
    hub_server.publish(REPO, A)
    hub_server.cuts, hub_server.refusals = {"model.gguf": 1000}, {"model.gguf": 1}
    with pytest.raises(ModelFileError):
        hub.fetch(wanted(tmp_path))
    commit = hub_server.publish(REPO, B)
    folder = hub.fetch(wanted(tmp_path))
    assert held(folder) == of(B)
    record = read_record(folder)
    assert record is not None and record.revision == commit
    assert not list(folder.glob("*.part"))


def test_what_an_older_downloader_left_is_not_gone_on_with(
    hub_server: HubServer, tmp_path: Path
) -> None:
    hub_server.publish(REPO, B)
    folder = wanted(tmp_path).folder
    folder.mkdir(parents=True)
    (folder / "model.gguf.part").write_bytes(b"A" * 5500)
    (folder / "config.json").write_bytes(A["config.json"])
    assert held(hub.fetch(wanted(tmp_path))) == of(B)
    assert not list(folder.glob("*.part"))


def test_a_whole_file_of_another_version_is_replaced(hub_server: HubServer, tmp_path: Path) -> None:
    hub_server.publish(REPO, B)
    folder = wanted(tmp_path).folder
    folder.mkdir(parents=True)
    (folder / "model.gguf").write_bytes(b"A" * len(B["model.gguf"]))
    assert held(hub.fetch(wanted(tmp_path))) == of(B)


def test_a_repository_that_moves_on_stays_as_it_was_fetched(
    hub_server: HubServer, tmp_path: Path
) -> None:
    """Files that are wanted later are those of the same commit."""
    commit = hub_server.publish(REPO, A)
    folder = hub.fetch(wanted(tmp_path))
    hub_server.publish(REPO, B)
    assert held(hub.fetch(wanted(tmp_path))) == of(A)
    more = replace(wanted(tmp_path), choose=lambda names: [n for n in names if n == "README.md"])
    hub.fetch(more)
    record = read_record(folder)
    assert record is not None and record.revision == commit
    assert set(record.files) == {*WANTED, "README.md"}
    assert held(folder) == of(A)


def test_what_was_lost_is_fetched_from_the_same_commit(
    hub_server: HubServer, tmp_path: Path
) -> None:
    commit = hub_server.publish(REPO, A)
    folder = hub.fetch(wanted(tmp_path))
    hub_server.publish(REPO, B)
    (folder / "config.json").unlink()
    assert hub.find(wanted(tmp_path)) is None
    assert held(hub.fetch(wanted(tmp_path))) == of(A)
    record = read_record(folder)
    assert record is not None and record.revision == commit


def test_a_change_of_revision_that_breaks_off_is_neither(
    hub_server: HubServer, tmp_path: Path
) -> None:
    first = hub_server.publish(REPO, A)
    second = hub_server.publish(REPO, B)
    hub.fetch(wanted(tmp_path, first))
    hub_server.refusals = {"model.gguf": 1}
    with pytest.raises(ModelFileError):
        hub.fetch(wanted(tmp_path, second))
    for revision in ("", first, second):
        assert hub.find(wanted(tmp_path, revision)) is None
    assert held(hub.fetch(wanted(tmp_path, first))) == of(A)


def test_a_pinned_revision_is_that_one(hub_server: HubServer, tmp_path: Path) -> None:
    first = hub_server.publish(REPO, A)
    second = hub_server.publish(REPO, B)
    assert held(hub.fetch(wanted(tmp_path, first))) == of(A)
    assert hub.find(wanted(tmp_path, second)) is None
    assert held(hub.fetch(wanted(tmp_path, second))) == of(B)
    with pytest.raises(ModelFileError, match="no such revision"):
        hub.fetch(wanted(tmp_path, "0" * 40))
    assert held(wanted(tmp_path).folder) == of(B)


@pytest.mark.parametrize("name", WANTED)
def test_a_damaged_file_is_removed(hub_server: HubServer, tmp_path: Path, name: str) -> None:
    hub_server.publish(REPO, A)
    hub_server.damaged = {name}
    with pytest.raises(ModelFileError, match=f"{name} arrived damaged and was removed"):
        hub.fetch(wanted(tmp_path))
    assert not (wanted(tmp_path).folder / name).exists()
    hub_server.damaged = set()
    assert held(hub.fetch(wanted(tmp_path))) == of(A)


def test_a_sum_that_is_known_here_counts(hub_server: HubServer, tmp_path: Path) -> None:
    hub_server.publish(REPO, A)
    with pytest.raises(ModelFileError, match=f"SHA-256 .* expected {'0' * 64}"):
        hub.fetch(replace(wanted(tmp_path), sha256={"model.gguf": "0" * 64}))


def test_without_any_sum_it_is_said(
    hub_server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    from vivavoce.runtime import hub_client

    hub_server.publish(REPO, A)
    remote = hub_client._remote
    bare = {"sha256": "", "blob_id": ""}
    monkeypatch.setattr(hub_client, "_remote", lambda told: replace(remote(told), **bare))
    assert held(hub.fetch(wanted(tmp_path))) == of(A)
    assert "model.gguf: no sum is published" in caplog.text


def test_a_snapshot_in_the_clients_cache_is_used(hub_server: HubServer, tmp_path: Path) -> None:
    commit = hub_server.publish(REPO, A)
    import huggingface_hub

    cached = huggingface_hub.snapshot_download(REPO, endpoint=hub_server.endpoint)
    asked = list(hub_server.asked)
    for revision in ("", commit):
        assert hub.fetch(wanted(tmp_path, revision)) == Path(cached)
    assert hub_server.asked == asked
    assert hub.is_in_client_cache(Path(cached) / "model.gguf")
    assert hub.find(wanted(tmp_path, "1" * 40)) is None


def test_a_snapshot_that_lacks_something_is_not(hub_server: HubServer, tmp_path: Path) -> None:
    hub_server.publish(REPO, A)
    import huggingface_hub

    huggingface_hub.snapshot_download(
        REPO, endpoint=hub_server.endpoint, allow_patterns=["config.json"]
    )
    assert hub.find(wanted(tmp_path)) is None
    assert held(hub.fetch(wanted(tmp_path))) == of(A)


def test_a_gated_repository_says_what_to_do(
    hub_server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_server.publish(REPO, A)
    hub_server.gated = {REPO}
    with pytest.raises(ModelFileError, match=f"accept its licence at {hub_server.endpoint}.*HF_TO"):
        hub.fetch(wanted(tmp_path))
    monkeypatch.setenv("HF_TOKEN", "another")
    with pytest.raises(ModelFileError, match="does not open it"):
        hub.fetch(wanted(tmp_path))
    monkeypatch.setenv("HF_TOKEN", "mine")
    assert held(hub.fetch(wanted(tmp_path))) == of(A)


def test_large_files_come_from_elsewhere_and_the_token_stays_here(
    hub_server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_server.publish(REPO, A)
    hub_server.gated = {REPO}
    hub_server.elsewhere = "localhost"
    hub_server.cuts = {"model.gguf": 1000}
    monkeypatch.setenv("HF_TOKEN", "mine")
    assert held(hub.fetch(wanted(tmp_path))) == of(A)
    assert [at for name, at in hub_server.ranges if name == "model.gguf"] == ["", "bytes=1000-"]


def test_a_token_that_the_hubs_own_tool_keeps(hub_server: HubServer, tmp_path: Path) -> None:
    hub_server.publish(REPO, A)
    hub_server.gated = {REPO}
    (tmp_path / "hub-token").write_text("mine\n")
    assert held(hub.fetch(wanted(tmp_path))) == of(A)


def test_what_is_not_there(hub_server: HubServer, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=f"no repository {REPO}"):
        hub.fetch(wanted(tmp_path))
    hub_server.publish(REPO, {"README.md": b"#"})
    with pytest.raises(ModelFileError, match=f"{REPO} holds no model"):
        hub.fetch(wanted(tmp_path))


def test_offline_nobody_is_asked(
    hub_server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    hub_server.publish(REPO, A)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelFileError, match="not on this machine, and HF_HUB_OFFLINE"):
        hub.fetch(wanted(tmp_path))
    assert hub_server.asked == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    folder = hub.fetch(wanted(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.fetch(wanted(tmp_path)) == folder


def test_no_network(hub_server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelFileError, match=f"{REPO} cannot be downloaded"):
        hub.fetch(wanted(tmp_path))


def test_a_full_disk_is_seen_before(
    hub_server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_server.publish(REPO, A)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(ModelFileError, match=r"GB more .* where 0\.0 GB are free"):
        hub.fetch(wanted(tmp_path))
    assert hub_server.fetched == []


def test_names_that_lead_out_of_the_folder_are_not_fetched(
    hub_server: HubServer, tmp_path: Path
) -> None:
    bad = "../../evil.gguf"
    hub_server.publish(REPO, {bad: b"x"})
    with pytest.raises(ModelFileError, match="it is not fetched"):
        hub.fetch(replace(wanted(tmp_path), choose=list))


def test_two_that_want_the_same_fetch_it_once(hub_server: HubServer, tmp_path: Path) -> None:
    hub_server.publish(REPO, A)
    with ThreadPoolExecutor(2) as pool:
        fetched = [pool.submit(hub.fetch, wanted(tmp_path)) for _ in range(2)]
        assert {each.result() for each in fetched} == {wanted(tmp_path).folder}
    assert sorted(hub_server.fetched) == WANTED


def test_a_shared_file_is_fetched_once(hub_server: HubServer, tmp_path: Path) -> None:
    hub_server.publish(REPO, A)
    hub_server.publish("maker/other", A | {"config.json": b"{}"})
    kept = tmp_path / "models" / "shared" / "sum.gguf"
    one = replace(wanted(tmp_path), shared={"model.gguf": kept})
    other = replace(one, repo="maker/other", folder=tmp_path / "models" / "other")
    first, second = hub.fetch(one), hub.fetch(other)
    assert hub_server.fetched.count("model.gguf") == 1
    assert (first / "model.gguf").samefile(second / "model.gguf")
    kept.unlink()
    kept.write_bytes(b"something else")
    shutil.rmtree(second)
    assert (hub.fetch(other) / "model.gguf").read_bytes() == A["model.gguf"] == kept.read_bytes()


@pytest.mark.parametrize("text", ["{", "[]", '{"repo": 1}', '{"repo": "a", "revision": "b", '
                                  '"files": ["none"]}'])  # fmt: skip
def test_a_record_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / RECORD).write_text(text)
    assert read_record(tmp_path) is None


def test_records_of_earlier_versions(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).touch()
    for told in ({"files": ["a"]}, {"sha256": {"b": "0"}}):
        (tmp_path / RECORD).write_text(json.dumps({"repo": REPO, "revision": "r"} | told))
        record = read_record(tmp_path)
        assert record is not None and record.revision == "r"


def test_placing_survives_a_disk_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(hub.os, "link", refuse)
    (tmp_path / "a").write_bytes(b"x")
    hub.place(tmp_path / "a", tmp_path / "deep" / "b")
    assert (tmp_path / "deep" / "b").read_bytes() == b"x"


@pytest.mark.parametrize("terminal", [False, True])
def test_bars_are_for_terminals(
    hub_server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(shown, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr(sys, "stderr", shown)
    hub_server.publish(REPO, A)
    hub.fetch(wanted(tmp_path))
    assert ("model.gguf" in shown.getvalue()) == terminal
