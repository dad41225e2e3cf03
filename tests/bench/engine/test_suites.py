"""``vivavoce bench engine`` on a tiny model: every part tells what it should, into one file."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from engines.qwen3.simulated_card import SimulatedCard
from vivavoce.bench.engine import frames, peer, suites
from vivavoce.bench.engine.correct import alike
from vivavoce.bench.engine.fitting import fitting, left_out
from vivavoce.bench.engine.frames import predicted_ms
from vivavoce.bench.engine.printing import lines
from vivavoce.bench.engine.setting import POSITIONS, Setting, by_precision, make_checkpoint
from vivavoce.bench.engine.stages import Stages, frame_bytes
from vivavoce.cli.bench_engine import bench_engine
from vivavoce.engines.base import EngineInfo, Produced
from vivavoce.engines.qwen3 import device
from vivavoce.engines.qwen3.agreement import fused_talker
from vivavoce.engines.qwen3.catalog import published
from vivavoce.engines.qwen3.checkpoint import open_checkpoint
from vivavoce.engines.qwen3.config import Qwen3Config, TalkerConfig
from vivavoce.engines.qwen3.device import choose_place
from vivavoce.engines.qwen3.memory import planned_footprint
from vivavoce.engines.qwen3.model import Model
from vivavoce.engines.qwen3.options import Qwen3Options
from vivavoce.engines.qwen3.rows import RowState
from vivavoce.engines.qwen3.talker import Talker
from vivavoce.errors import EngineError, SettingsError, SetupError
from vivavoce.runtime.kernels.dispatch import Path as KernelPath
from vivavoce.runtime.kernels.dispatch import chosen
from vivavoce.testing.published_config import (
    SMALL_FILES,
    codec_config,
    model_config,
    small_file,
)

SHOWN = {
    "kernels": (
        "talker qkv",
        "next text",
        "settle",
        "finish",
        "launches a frame",
        "what they read takes",
    )
}

app = typer.Typer()
app.command()(bench_engine)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint("0.6B", tmp_path_factory.mktemp("made"), tiny=True)


def setting_of(folder: Path, **how: Any) -> Setting:
    usual: dict[str, Any] = {"rows": (1, 2), "precisions": ("none",), "seconds": 0.3}
    return Setting(folder, "0.6B", "cpu", tiny=True, **(usual | how))


def test_the_command_puts_each_part_into_the_same_file(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "all.json"
    usual = ["--tiny", "--device", "cpu", "--rows", "1", "--precision", "none", "--seconds", "0.2"]
    for part in ("kernels", "load", "peer"):
        where = ["--checkpoint", str(folder), "--json", str(path)]
        ran = CliRunner().invoke(app, [*usual, *where, "--part", part], catch_exceptions=False)
        assert ran.exit_code == 0 and "No CUDA device: this measures the CPU." in ran.output
        for word in SHOWN.get(part, ()):
            assert word in ran.output
    told = json.loads(path.read_text())["models"]["0.6B tiny"]
    assert list(told) == ["kernels", "load", "peer"]
    assert all("failed" not in each for each in told.values())
    assert told["load"]["where"]["versions"]["python"] and told["load"]["where"]["on"] == "cpu"
    assert told["load"]["none"]["1 callers"]["calls"] > 0
    assert told["load"]["none"]["1 callers, 10 s each"]["calls"] > 0


def test_a_precision_that_failed_is_shown_beside_the_others() -> None:
    told = {"copy_gb_s": 1.0, "fp8": {"failed": "no such device"}, "took_s": 1.0, "where": {}}
    assert lines("frames", told) == "  fp8: failed: no such device"
    assert lines("load", {"failed": "all"} | told) == "  failed: all"


def test_a_part_that_is_none_is_a_usage_error() -> None:
    ran = CliRunner().invoke(app, ["--part", "wheels"])
    assert ran.exit_code == 2


def test_frames_by_rows_and_by_stage(folder: Path) -> None:
    told = suites.run_part("frames", setting_of(folder))["none"]
    assert set(told["ms"]) == set(told["predicted_ms"]) == {1, 2}
    for stages in told["stages_ms"].values():
        assert set(stages) == {"talker", "code predictor", "sampling", "frame", "codec", "host"}
        assert all(ms > 0 for name, ms in stages.items() if name != "host")
    assert told["floor"]["mb_a_frame"] > 1 and told["first_sound_ms"]["count"] == 3
    assert told["first_audible_ms"]["p50"] >= told["first_sound_ms"]["p50"]
    assert told["memory_mb"]["peak_resident"] > 100
    assert told["weights_mb"] > 0 and "flash" in told["attention"]
    assert told["kernels"].startswith("torch") and told["stages_by"] == "torch"
    assert told["compile_mode"] == "off" and told["prepare_s"] >= 0


def test_stages_are_those_of_what_runs(folder: Path) -> None:
    """Where kernels run in service they are timed, not the modules."""
    plain = chosen(torch.device("cpu"), torch.float32)
    calls: Counter[str] = Counter()

    def counted(name: str) -> Any:
        def call(*given: Any, **how: Any) -> Any:
            calls[name] += 1
            return getattr(plain, name)(*given, **how)

        return call

    names = ("linear", "gated", "normalize", "attend", "sample", "next_text", "settle", "finish")
    told = replace(plain, path=KernelPath.TRITON, **{name: counted(name) for name in names})
    model = Model.load(folder, choose_place(Qwen3Options(device="cpu")))
    fused = fused_talker(
        model.talker,
        told,
        RowState.build(model.config.talker, 2, 64, model.talker.codec_head.weight),
    )
    assert fused is not None
    stages = Stages(model, 2, fused)
    layers = len(model.talker.model.layers)
    passes = len(model.talker.code_predictor.model.layers) * 15
    wanted = {
        "talker": {"linear": 3 * layers + 1, "attend": layers, "gated": layers, "normalize": 1},
        "code predictor": {"linear": 3 * passes + 15, "attend": passes, "gated": passes},
        "sampling": {"sample": 16},
    }
    with torch.inference_mode():
        for name, work in stages._works().items():
            calls.clear()
            work()
            if name in wanted:
                assert calls == wanted[name], name
            else:
                assert (calls["sample"] == 16) == (name == "frame")


def test_kernels_are_measured_at_the_models_shapes(folder: Path) -> None:
    told = suites.run_part("kernels", setting_of(folder, precisions=("none", "int8")))
    assert told["path"] == "torch" and "cpu" in told["why"]
    names = {row["name"] for row in told["rows"]}
    assert names == {
        f"{model} {part}"
        for model in ("talker", "predictor")
        for part in ("qkv", "out", "gate", "down", "head")
    } | {"text first", "text second"}
    assert all(row["error"] < 1e-5 and row["ms"] > 0 for row in told["rows"])
    assert all(each["gb_s"] > 0 for each in (*told["rows"], *told["others"]))
    talker = Qwen3Config.load(folder).talker
    layers, small = talker.num_hidden_layers, talker.code_predictor.num_hidden_layers
    assert told["launches_a_frame"] == 5 * layers + 1 + 15 * (5 * small + 1) + 16 + 2 + 3
    for frame in told["frame_ms"]:
        assert frame["sum"] >= frame["floor"] > 0
    assert {(each["precision"], each["rows"]) for each in told["frame_ms"]} == {
        (precision, rows) for precision in ("none", "int8") for rows in (1, 2)
    }


def test_rows_in_company_are_as_alone(folder: Path) -> None:
    told = suites.run_part("correct", setting_of(folder))
    assert told["float32"] == {"alone = in company": {1: True, 2: True}}  # nothing is captured here
    across = told["across buckets"]
    assert across["dtype"] == "torch.float32"
    for part in ("talker", "code predictor"):
        assert across[part]["least_cosine"] > 0.99999 and across[part]["top_1"] > 0.99


def test_a_part_that_fails_says_so_and_the_next_goes_on(tmp_path: Path) -> None:
    told = suites.run_part("frames", setting_of(tmp_path / "nothing"))
    assert "ModelFileError" in told["failed"] and told["took_s"] >= 0


def test_a_precision_that_fails_takes_no_other_along(folder: Path) -> None:
    def measure(precision: str) -> dict[str, Any]:
        return {"ms": 1 / (precision == "none")}

    told = by_precision(setting_of(folder, precisions=("none", "int8")), measure)
    assert told["none"] == {"ms": 1} and "ZeroDivisionError" in told["int8"]["failed"]
    assert "failed" not in told
    assert (
        "ZeroDivisionError"
        in by_precision(setting_of(folder, precisions=("fp8",)), measure)["failed"]
    )


def test_each_precision_is_in_the_file_before_the_next_begins(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is ended, or a precision that fails, leaves what was found before it."""
    path, seen = tmp_path / "all.json", []

    def measure(setting: Setting) -> dict[str, Any]:
        def one(precision: str) -> dict[str, Any]:
            seen.append(json.loads(path.read_text()) if path.exists() else None)
            return {"ms": 1 / (precision != "int8")}

        return by_precision(setting, one)

    monkeypatch.setitem(suites.PARTS, "frames", "part.measure")
    part = ModuleType("part")
    part.measure = measure  # type: ignore[attr-defined]
    monkeypatch.setattr(suites, "import_module", lambda _: part)
    keep = partial(suites.merge, path, "0.6B tiny", "frames")
    told = suites.run_part("frames", setting_of(folder, precisions=("none", "int8"), keep=keep))
    assert seen[0] is None
    between = seen[1]["models"]["0.6B tiny"]["frames"]
    assert between["none"] == {"ms": 1.0} and between["to_come"] == ["int8"]
    assert between["where"]["on"] == "cpu"
    after = keep(told)["models"]["0.6B tiny"]["frames"]
    assert after["none"] == {"ms": 1.0} and "ZeroDivisionError" in after["int8"]["failed"]
    assert "to_come" not in after


def test_a_card_gets_the_rows_it_has_memory_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = setting_of(folder, rows=(1, 2, 4, 64))
    assert fitting(setting, "none") is setting  # a CPU has no such bound
    place = choose_place(Qwen3Options(device="cpu", quantize="none"))
    needs = planned_footprint(Qwen3Config.load(folder), place, POSITIONS)
    monkeypatch.setattr(device, "card_on", lambda _: SimulatedCard(needs.total(5)))
    fitted = fitting(setting, "none")
    assert fitted.rows == (1, 2, 4) and left_out(setting, fitted) == {"rows_without_room": [64]}
    monkeypatch.setattr(device, "card_on", lambda _: SimulatedCard(needs.total(1) - 1))
    with pytest.raises(SetupError, match="for rows"):
        fitting(setting, "none")


def test_rows_without_room_are_named_and_the_others_measured(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = choose_place(Qwen3Options(device="cpu", quantize="none"))
    needs = planned_footprint(Qwen3Config.load(folder), place, POSITIONS)
    monkeypatch.setattr(device, "card_on", lambda _: SimulatedCard(needs.total(2)))
    setting = setting_of(folder, rows=(1, 4))
    found = {part: suites.run_part(part, setting) for part in ("frames", "load", "correct")}
    assert set(found["frames"]["none"]["ms"]) == {1}
    assert found["correct"]["float32"]["alone = in company"] == {1: True}
    for told in (found["frames"]["none"], found["load"]["none"], found["correct"]["float32"]):
        assert told["rows_without_room"] == [4]


def test_precisions_of_several_runs_come_together(tmp_path: Path) -> None:
    """A machine that is lent for minutes measures one at a time."""
    path = tmp_path / "all.json"
    suites.merge(path, "0.6B", "frames", {"failed": "at first", "copy_gb_s": 1})
    suites.merge(path, "0.6B", "frames", {"none": {"ms": 1}, "copy_gb_s": 2})
    whole = suites.merge(path, "0.6B", "frames", {"int8": {"ms": 2}, "copy_gb_s": 3})
    assert whole["models"]["0.6B"]["frames"] == {
        "none": {"ms": 1},
        "int8": {"ms": 2},
        "copy_gb_s": 3,
    }


def test_other_parts_are_kept_and_other_files_refused(tmp_path: Path) -> None:
    path = tmp_path / "all.json"
    suites.merge(path, "0.6B", "frames", {"ms": 1})
    suites.merge(path, "1.7B", "frames", {"ms": 2})
    whole = suites.merge(path, "0.6B", "load", {"calls": 3})
    assert whole == json.loads(path.read_text())
    assert whole["models"] == {
        "0.6B": {"frames": {"ms": 1}, "load": {"calls": 3}},
        "1.7B": {"frames": {"ms": 2}},
    }
    for other in ('{"mine": 1}', "not JSON"):
        path.write_text(other)
        with pytest.raises(SettingsError, match=path.name):
            suites.merge(path, "0.6B", "load", {})
        assert path.read_text() == other


def test_without_the_other_package_it_says_how_to_get_it(folder: Path) -> None:
    if peer.find_spec(peer.MODULE) is not None:
        pytest.skip("it is installed")
    assert "pip install" in suites.run_part("peer", setting_of(folder))["missing"]


class StandIn:
    """Streams chunks of silence as faster-qwen3-tts does."""

    asked: list[dict[str, Any]] = []  # noqa: RUF012

    @classmethod
    def from_pretrained(cls, folder: str, device: str) -> StandIn:
        assert Path(folder, "config.json").is_file() and device == "cpu"
        return cls()

    def generate_custom_voice_streaming(
        self, *, max_new_tokens: int, chunk_size: int = 12, **asked: Any
    ) -> Iterator[tuple[np.ndarray, int, dict[str, float]]]:
        self.asked.append({"chunk_size": chunk_size, **asked})
        for _ in range(max_new_tokens // chunk_size):
            yield np.zeros(chunk_size * 1920, np.float32), 24_000, {}


def test_the_other_package_speaks_as_long_and_in_both_chunks(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType(peer.MODULE)
    module.FasterQwen3TTS = StandIn  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, peer.MODULE, module)
    monkeypatch.setattr(peer, "find_spec", lambda name: name)
    monkeypatch.setattr(peer, "FRAMES", 12)
    told = suites.run_part("peer", setting_of(folder))
    assert {each["chunk_size"] for each in StandIn.asked} == {1, 12}
    assert set(told["theirs"]) == set(told["times_quicker"]) == set(peer.CHUNKS)
    ours, theirs = told["ours"]["none"], told["theirs"]["one frame"]
    assert ours["ms_a_frame"] > theirs["ms_a_frame"] > 0  # a stand-in computes nothing
    quicker = told["times_quicker"]["one frame"]["first_sound_ms"]
    assert quicker == round(theirs["first_sound_ms"] / ours["first_sound_ms"], 2)


def true_size(name: str, folder: Path) -> TalkerConfig:
    model = published(f"Qwen3-TTS-12Hz-{name}-CustomVoice")
    for file in SMALL_FILES:
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(small_file(file))
    (folder / "config.json").write_text(json.dumps(model_config(model)))
    (folder / "speech_tokenizer" / "config.json").write_text(json.dumps(codec_config()))
    return Qwen3Config.load(folder).talker


@pytest.mark.parametrize(("name", "megabytes"), [("0.6B", 3322), ("1.7B", 5274)])
def test_the_floor_is_that_of_the_published_models(
    name: str, megabytes: int, tmp_path: Path
) -> None:
    """Bytes of bfloat16 as counted by hand, without the norms: 0.01 %."""
    with torch.device("meta"):
        talker = Talker(true_size(name, tmp_path)).bfloat16()
    assert frame_bytes(talker) / 1e6 == pytest.approx(megabytes, rel=5e-4)


def test_a_frame_s_bytes_are_counted_from_the_weights(folder: Path) -> None:
    config = open_checkpoint(folder).config.talker
    talker = Talker(config).bfloat16()
    layers = sum(p.nbytes for p in talker.model.layers.parameters())
    again = sum(p.nbytes for p in talker.code_predictor.model.layers.parameters())
    heads = sum(p.nbytes for p in talker.code_predictor.lm_head.parameters())
    heads += talker.codec_head.weight.nbytes
    heads += sum(p.nbytes for p in talker.text_projection.parameters())
    norms = talker.model.norm.weight.nbytes + 15 * talker.code_predictor.model.norm.weight.nbytes
    assert frame_bytes(talker) == layers + 15 * again + heads + norms
    talker.join()
    assert frame_bytes(talker) == layers + 15 * again + heads + norms
    assert frame_bytes(talker.to(torch.float32)) == 2 * (layers + 15 * again + heads + norms)


def test_predictions_are_slower_than_the_floor_and_grow_with_rows() -> None:
    told = predicted_ms(1.0, 3000.0, "none", (1, 11))
    assert told == {1: 2.5, 11: 2.75}
    assert predicted_ms(1.0, 250.0, "int8", (1,))[1] == 1.48


@pytest.mark.parametrize(
    ("got", "told"),
    [
        ([[[1], [2]], [[3], [4]]], True),
        ([[[1], [2]], [[3], [5]]], "1 of 2 rows; row 1 differs from frame 1 on"),
        ([[[1]], [[3], [4]]], "1 of 2 rows; row 0 differs from its end on"),
    ],
)
def test_codes_that_differ_are_told(got: list[list[list[int]]], told: bool | str) -> None:
    assert alike(got, [[[1], [2]], [[3], [4]]]) == told


class Ended:
    """An engine whose call ends before there is any sound."""

    info = EngineInfo("ended", "none", 24_000)

    def admit(self, utterance: object) -> int:
        return 0

    def voices(self) -> list[str]:
        return ["nobody"]

    def step(self) -> list[Produced]:
        return [Produced(0, np.zeros(0, np.float32), last=True, error=EngineError("planted"))]


def test_a_call_without_sound_is_not_waited_for() -> None:
    with pytest.raises(AssertionError, match="planted"):
        frames.first_sound_ms(Ended(), 1)  # type: ignore[arg-type]
