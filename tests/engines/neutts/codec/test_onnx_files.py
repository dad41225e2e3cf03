"""The written graph is kept beside the checkpoint and made anew when it must be."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from vivavoce.engines.neutts.codec.network import DecoderWeights, open_decoder
from vivavoce.engines.neutts.codec.onnx_codec import open_onnx_codec
from vivavoce.engines.neutts.codec.onnx_files import GRAPH, WEIGHTS, graph_file
from vivavoce.testing.random_neucodec import make_random_codec

CODES = np.arange(7, dtype=np.int32)


@pytest.fixture
def own(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint with nothing beside it."""
    folder = tmp_path / "model"
    folder.mkdir()
    return Path(shutil.copy(checkpoint, folder))


def _graph(weights: DecoderWeights, cache: Path) -> Path:
    with graph_file(weights, "int8", cache) as path:
        return path


def test_kept_beside_the_checkpoint_and_used_again(own: Path, tmp_path: Path) -> None:
    path = _graph(open_decoder(own), tmp_path / "cache")
    assert path.parent.parent == own.parent
    made = path.stat().st_mtime_ns
    assert _graph(open_decoder(own), tmp_path / "cache").stat().st_mtime_ns == made
    assert not (tmp_path / "cache").exists()
    assert {each.name for each in own.parent.iterdir()} == {own.name, path.parent.name}


def test_other_weights_get_a_graph_of_their_own(own: Path, tmp_path: Path) -> None:
    first = _graph(open_decoder(own), tmp_path)
    sound = open_onnx_codec(own).decode(CODES)
    make_random_codec(own, tiny=True, seed=1)
    assert _graph(open_decoder(own), tmp_path) != first
    assert not np.allclose(open_onnx_codec(own).decode(CODES), sound)


@pytest.mark.parametrize("name", [GRAPH, WEIGHTS])
def test_a_damaged_graph_is_made_anew(own: Path, tmp_path: Path, name: str) -> None:
    path = _graph(open_decoder(own), tmp_path)
    sound = open_onnx_codec(own).decode(CODES)
    whole = (path.parent / name).read_bytes()
    (path.parent / name).write_bytes(whole[:-100])
    assert np.array_equal(open_onnx_codec(own).decode(CODES), sound)
    assert (path.parent / name).read_bytes() == whole


def test_a_folder_that_cannot_be_written_uses_the_cache(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.parent.chmod(0o500)
    if _writable(own.parent):  # root writes anywhere
        import tempfile

        real_temporary = tempfile.TemporaryDirectory

        def refuse(dir: Path | None = None, prefix: str = "") -> object:
            if dir == own.parent:
                raise PermissionError("read-only")
            return real_temporary(dir=dir, prefix=prefix)

        monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)
    path = _graph(open_decoder(own), tmp_path / "cache")
    own.parent.chmod(0o700)
    assert path.parent.parent == tmp_path / "cache" / "neutts"
    assert path.is_file()


def _writable(folder: Path) -> bool:
    try:
        (folder / "probe").touch()
    except OSError:
        return False
    (folder / "probe").unlink()
    return True


def test_with_no_place_at_all_it_works_all_the_same(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr("vivavoce.runtime.derived_files._keep", refuse)
    sound = open_onnx_codec(own, cache=tmp_path / "cache").decode(CODES)
    assert len(sound) == 480 * len(CODES)
    assert [each.name for each in own.parent.iterdir()] == [own.name]
