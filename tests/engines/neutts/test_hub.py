"""Repositories and paths, with a hub that answers from memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from vivavoce.engines.neutts import hub
from vivavoce.errors import ModelFileError, SettingsError

REPO = "neuphonic/neutts-nano-q4-gguf"
FILES = {"model-Q4_0.gguf": b"G" * 5000, "README.md": b"#", ".gitattributes": b""}

Answer = Callable[[httpx.Request], httpx.Response]


class FakeHub:
    """Gated where ``token`` is set; ``breaks_at`` cuts one download short."""

    def __init__(self, token: str = "", breaks_at: int | None = None) -> None:
        self.token, self.breaks_at = token, breaks_at
        self.asked: list[str] = []
        self.ranges: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return httpx.Response(401)
        if request.url.path == f"/api/models/{REPO}":
            siblings = [{"rfilename": name, "size": len(FILES[name])} for name in FILES]
            return httpx.Response(200, json={"sha": "abc", "siblings": siblings})
        name = request.url.path.removeprefix(f"/{REPO}/resolve/main/")
        if name not in FILES:
            return httpx.Response(404)
        return self._file(FILES[name], request.headers.get("range", ""))

    def _file(self, content: bytes, asked: str) -> httpx.Response:
        self.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-") or 0)
        if self.breaks_at is not None:
            cut, self.breaks_at = self.breaks_at, None
            return httpx.Response(200, stream=Broken(content[:cut]))
        return httpx.Response(206 if start else 200, content=content[start:])


class Broken(httpx.SyncByteStream):
    def __init__(self, content: bytes) -> None:
        self.content = content

    def __iter__(self):  # type: ignore[no-untyped-def]
        yield self.content
        raise httpx.ReadError("the line broke")


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Answer], None]:
    """Puts a hub in the place of the network; no token from the user's own files."""
    for name in hub.TOKEN_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))

    def install(answer: Answer) -> None:
        real = httpx.Client

        def client(**options: object) -> httpx.Client:
            return real(transport=httpx.MockTransport(answer), **options)  # type: ignore[arg-type]

        monkeypatch.setattr(hub.httpx, "Client", client)

    return install


def test_a_repository_is_downloaded_once(serve: Callable[[Answer], None], tmp_path: Path) -> None:
    fake = FakeHub()
    serve(fake)
    folder = hub.locate(REPO, tmp_path, hub.BACKBONE)
    assert [path.name for path in folder.glob("*.gguf")] == ["model-Q4_0.gguf"]
    assert not (folder / "README.md").exists()
    asked = len(fake.asked)
    assert hub.locate(REPO, tmp_path, hub.BACKBONE) == folder
    assert len(fake.asked) == asked
    assert hub.find_gguf(folder) == folder / "model-Q4_0.gguf"


def test_a_download_names_what_it_fetches_and_its_bytes_before_it_begins(
    serve: Callable[[Answer], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fake = FakeHub()
    told_after: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if "/resolve/" in request.url.path:
            told_after.append(len(caplog.records))
        return fake(request)

    serve(answer)
    hub.locate(REPO, tmp_path, hub.BACKBONE)
    size_bytes = sum(len(FILES[name]) for name in hub.BACKBONE.of(list(FILES)))
    assert f"{REPO} from {hub.HUB}" in caplog.records[0].message
    assert f"{size_bytes:,} bytes" in caplog.records[0].message
    assert caplog.records[0].levelname == "WARNING", "shown at a terminal, too"
    assert told_after[0] >= 1
    caplog.clear()
    hub.locate(REPO, tmp_path, hub.BACKBONE)
    assert not caplog.records


def test_a_broken_download_goes_on(serve: Callable[[Answer], None], tmp_path: Path) -> None:
    fake = FakeHub(breaks_at=1000)
    serve(fake)
    with pytest.raises(ModelFileError, match="goes on from there"):
        hub.locate(REPO, tmp_path, hub.BACKBONE)
    folder = hub.locate(REPO, tmp_path, hub.BACKBONE)
    assert (folder / "model-Q4_0.gguf").read_bytes() == FILES["model-Q4_0.gguf"]
    assert fake.ranges == ["", "bytes=1000-"]


def test_a_gated_repository_says_what_to_do(
    serve: Callable[[Answer], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(FakeHub(token="mine"))
    with pytest.raises(ModelFileError, match="HF_TOKEN"):
        hub.locate(REPO, tmp_path, hub.BACKBONE)
    monkeypatch.setenv("HF_TOKEN", "another")
    with pytest.raises(ModelFileError, match="does not open it"):
        hub.locate(REPO, tmp_path, hub.BACKBONE)
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "token").write_text("mine\n")
    monkeypatch.delenv("HF_TOKEN")
    assert hub.locate(REPO, tmp_path, hub.BACKBONE).is_dir()


def test_an_unknown_repository(serve: Callable[[Answer], None], tmp_path: Path) -> None:
    serve(FakeHub())
    with pytest.raises(ModelFileError, match="no repository"):
        hub.locate("neuphonic/neutts-mega", tmp_path, hub.BACKBONE)


def test_a_repository_without_a_model(serve: Callable[[Answer], None], tmp_path: Path) -> None:
    serve(FakeHub())
    with pytest.raises(ModelFileError, match="holds no codec"):
        hub.locate(REPO, tmp_path, hub.CODEC)


@pytest.mark.parametrize("name", ["nowhere/at/all", "missing.gguf", "./gone", "a/b.gguf"])
def test_what_is_neither_path_nor_repository(name: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="neither"):
        hub.locate(name, tmp_path, hub.BACKBONE)


def test_a_folder_with_several_files_is_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").touch()
    (tmp_path / "a.pruned.gguf").touch()
    assert hub.find_gguf(tmp_path) == tmp_path / "a.gguf"
    (tmp_path / "b.gguf").touch()
    with pytest.raises(ModelFileError, match=r"b\.gguf"):
        hub.find_gguf(tmp_path)


def test_what_was_downloaded_is_found_and_what_was_not_is_not_fetched(
    serve: Callable[[Answer], None], tmp_path: Path
) -> None:
    fake = FakeHub()
    serve(fake)
    with pytest.raises(ModelFileError, match=r"backbone .* is not on this machine.*preload_model"):
        hub.find(REPO, tmp_path, hub.BACKBONE)
    assert fake.asked == []
    folder = hub.locate(REPO, tmp_path, hub.BACKBONE)
    assert hub.find(REPO, tmp_path, hub.BACKBONE) == folder
    assert hub.find(str(folder), tmp_path, hub.BACKBONE) == folder
    (folder / "model-Q4_0.gguf").unlink()
    with pytest.raises(ModelFileError, match="not on this machine"):
        hub.find(REPO, tmp_path, hub.BACKBONE)
    with pytest.raises(SettingsError, match="neither"):
        hub.find("missing.gguf", tmp_path, hub.BACKBONE)
