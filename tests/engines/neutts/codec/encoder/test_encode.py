"""A recording becomes codes, in a process of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from vivavoce.engines.neutts.codec.encoder.encode import encode_reference  # noqa: E402
from vivavoce.engines.neutts.codec.encoder.loading import open_encoder  # noqa: E402
from vivavoce.engines.neutts.codec.encoder.modules import encoded  # noqa: E402
from vivavoce.engines.neutts.codec.encoder.recording import prepare_recording  # noqa: E402
from vivavoce.errors import InvalidAudio, ModelFileError, SettingsError  # noqa: E402
from vivavoce.runtime.torch_zip import TorchZip  # noqa: E402
from vivavoce.testing.random_encoder import make_random_encoder  # noqa: E402
from vivavoce.testing.torch_zip_writing import write_torch_zip  # noqa: E402
from vivavoce.types import ReferenceAudio  # noqa: E402

SPOKEN = np.random.default_rng(0).normal(0, 0.1, 24_000).astype(np.float32)
REFERENCE = ReferenceAudio(SPOKEN, 24_000)


@pytest.fixture(scope="module", params=["full", "distilled"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    return make_random_encoder(folder / "pytorch_model.bin", request.param, tiny=True)


def _state(path: Path) -> dict[str, np.ndarray]:
    file = TorchZip.open(path)
    return {name: file.read(name) for name in file.shapes}


def _write(path: Path, state: dict[str, np.ndarray]) -> Path:
    write_torch_zip(path, iter(state.items()), {name: v.shape for name, v in state.items()})
    return path


def test_codes_of_a_recording(checkpoint: Path) -> None:
    samples = prepare_recording(SPOKEN, 24_000)
    codes = encoded(open_encoder(checkpoint), samples, torch.device("cpu"))
    # 51 codes of 320 samples; the full encoder's filter bank has one frame less.
    assert len(codes) == (50 if checkpoint.parent.name.startswith("full") else 51)
    assert codes.dtype == np.int32 and codes.min() >= 0 and codes.max() < 65_536
    assert len(np.unique(codes)) > 5
    other = encoded(open_encoder(checkpoint), samples[::-1].copy(), torch.device("cpu"))
    assert not np.array_equal(codes, other)


def test_the_worker_gives_the_same_codes(checkpoint: Path) -> None:
    samples = prepare_recording(SPOKEN, 24_000)
    here = encoded(open_encoder(checkpoint), samples, torch.device("cpu"))
    assert np.mean(encode_reference(checkpoint, REFERENCE, threads=1) == here) > 0.95


def test_the_semantic_model_may_be_a_file_of_its_own(checkpoint: Path, tmp_path: Path) -> None:
    state = _state(checkpoint)
    ours = {n: v for n, v in state.items() if not n.startswith("semantic_model.")}
    theirs = {n.removeprefix("semantic_model."): v for n, v in state.items() if n not in ours}
    codec = _write(tmp_path / "codec.bin", ours)
    semantic = _write(tmp_path / "semantic.bin", theirs)
    samples = prepare_recording(SPOKEN, 24_000)
    whole = encoded(open_encoder(checkpoint), samples, torch.device("cpu"))
    parts = encoded(open_encoder(codec, semantic), samples, torch.device("cpu"))
    assert np.array_equal(whole, parts)
    with pytest.raises(ModelFileError, match="semantic_model"):
        open_encoder(codec)


def test_weight_norms_are_multiplied_out(checkpoint: Path, tmp_path: Path) -> None:
    names = ("_g", "_v")
    state = _state(checkpoint)
    if checkpoint.parent.name.startswith("distilled"):
        names = (".original0", ".original1")
    for name in [n for n in state if n.endswith(".weight") and state[n].ndim == 3]:
        weight = state.pop(name)
        length = np.sqrt((weight**2).sum((1, 2), keepdims=True))
        at = name if names[0] == "_g" else name.replace(".weight", ".parametrizations.weight")
        state |= {at + names[0]: length, at + names[1]: weight * 3}
    samples = prepare_recording(SPOKEN, 24_000)
    plain = encoded(open_encoder(checkpoint), samples, torch.device("cpu"))
    normed = open_encoder(_write(tmp_path / "a.bin", state))
    assert np.mean(encoded(normed, samples, torch.device("cpu")) == plain) > 0.95


def test_what_does_not_fit_is_named(checkpoint: Path, tmp_path: Path) -> None:
    state = _state(checkpoint)
    state["SemanticEncoder_module.final_conv.weight"] = np.zeros((2, 2, 2), np.float32)
    del state["generator.quantizer.project_in.bias"]
    with pytest.raises(ModelFileError, match=r"final_conv.* not .*project_in\.bias is missing"):
        open_encoder(_write(tmp_path / "a.bin", state))


def test_a_decoder_alone_is_no_encoder(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.bin", {"fc_post_a.bias": np.zeros(3, np.float32)})
    with pytest.raises(ModelFileError, match="no NeuCodec encoder"):
        encode_reference(path, REFERENCE)


def test_wrong_input_is_told_by_its_kind(checkpoint: Path) -> None:
    with pytest.raises(InvalidAudio):
        encode_reference(checkpoint, ReferenceAudio(SPOKEN[:10], 24_000))
    if not torch.cuda.is_available():
        with pytest.raises(SettingsError, match="CUDA"):
            encode_reference(checkpoint, REFERENCE, device="cuda")
