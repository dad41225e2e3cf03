"""Where Qwen3-TTS computes: nothing falls back without a word."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vivavoce.engines.qwen3 import create, device
from vivavoce.engines.qwen3.agreement import fused_talker
from vivavoce.engines.qwen3.device import choose_place
from vivavoce.engines.qwen3.options import Qwen3Options, compile_mode, refuse_unsupported
from vivavoce.errors import SettingsError, SetupError
from vivavoce.runtime import cuda
from vivavoce.runtime.kernels import dispatch as chooser
from vivavoce.runtime.nn.weights import Precision
from vivavoce.runtime.nvidia import Driver
from vivavoce.types import Gpu

WHY = "the driver is from another century"


@pytest.fixture(autouse=True)
def _restored() -> Any:
    """What ``choose_place`` sets for the process."""
    threads, tf32 = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    precision = torch.get_float32_matmul_precision()
    yield
    torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = tf32
    torch.set_float32_matmul_precision(precision)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device, "why_no_cuda", lambda: WHY)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card on which Triton works, until a test says otherwise."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 9))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
    monkeypatch.setattr(chooser, "find_spec", lambda name: object())
    monkeypatch.setattr(chooser, "triton_fault", lambda device: None)


def warnings(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(r.getMessage() for r in caplog.records if r.levelno == logging.WARNING)


@pytest.mark.usefixtures("no_gpu")
def test_a_device_that_was_asked_for_is_refused_with_the_reason() -> None:
    with pytest.raises(SettingsError, match=WHY) as caught:
        choose_place(Qwen3Options(device="cuda"))
    assert caught.value.param == "device"


@pytest.mark.parametrize("option", [{"device": "cuda"}, {"gpu_memory_budget_mb": 3072}])
def test_a_driver_that_is_too_old_is_named_with_what_to_do(
    option: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As PyTorch meets it: it sees no device, and the driver itself says which it is."""
    driver = Driver("550.54.14", (12, 4), (Gpu("RTX 4060"),))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch, "__version__", "2.13.0")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(cuda, "find_driver", lambda: driver)
    with pytest.raises(SettingsError) as caught:
        choose_place(Qwen3Options(**option))
    told = caught.value.message
    assert "550.54.14 is too old for CUDA 13.0" in told
    assert "install version 580 or newer" in told and "whl/cu126" in told


@pytest.mark.usefixtures("no_gpu")
def test_a_budget_asks_for_a_gpu() -> None:
    with pytest.raises(SettingsError, match=WHY) as caught:
        choose_place(Qwen3Options(gpu_memory_budget_mb=4096))
    assert caught.value.param == "gpu_memory_budget_mb"


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("options", "named"),
    [
        (Qwen3Options(cuda_graphs=True), "cuda_graphs=True"),
        (Qwen3Options(torch_compile=True), "torch_compile=True"),
        (Qwen3Options(torch_compile_mode="default"), "torch_compile_mode=default"),
        (Qwen3Options(tf32=True), "tf32=True"),
    ],
)
def test_what_is_for_a_gpu_is_named_on_a_cpu(
    options: Qwen3Options, named: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert choose_place(options).device.type == "cpu"
    assert f"Without effect on a CPU: {named}." in warnings(caplog)
    assert WHY in warnings(caplog)


@pytest.mark.usefixtures("no_gpu")
def test_int8_on_a_cpu_that_nobody_asked_for_is_told(caplog: pytest.LogCaptureFixture) -> None:
    place = choose_place(Qwen3Options(quantize="int8"))
    assert (place.device.type, place.precision) == ("cpu", Precision.INT8)
    assert WHY in warnings(caplog) and "Without effect" not in warnings(caplog)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    "options",
    [
        Qwen3Options(),
        Qwen3Options(device="cpu", quantize="int8"),
        Qwen3Options(cuda_graphs=False, torch_compile=False, torch_compile_mode="off"),
    ],
)
def test_a_cpu_that_is_meant_needs_no_words(
    options: Qwen3Options, caplog: pytest.LogCaptureFixture
) -> None:
    choose_place(options)
    assert warnings(caplog) == ""


@pytest.mark.usefixtures("gpu")
def test_int8_is_the_default_where_its_kernels_work() -> None:
    place = choose_place(Qwen3Options())
    assert (place.precision, place.dtype) == (Precision.INT8, torch.bfloat16)
    assert place.weights()["talker"].precision == "int8"


@pytest.mark.usefixtures("gpu")
def test_without_a_compiler_weights_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chooser, "triton_fault", lambda device: "Triton finds no C compiler")
    place = choose_place(Qwen3Options())
    assert (place.precision, place.dtype) == (Precision.NONE, torch.bfloat16)
    stored = place.weights()["talker"]
    assert stored.precision == "bfloat16"
    assert "no kernels for int8 here: Triton finds no C compiler" in stored.why


@pytest.mark.usefixtures("gpu")
def test_int8_that_was_asked_for_is_given_and_its_price_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert choose_place(Qwen3Options(quantize="int8")).precision is Precision.INT8
    assert warnings(caplog) == ""
    monkeypatch.setattr(chooser, "triton_fault", lambda device: "Triton finds no C compiler")
    assert choose_place(Qwen3Options(quantize="int8")).precision is Precision.INT8
    assert "slower than quantize=none" in warnings(caplog)
    assert "Triton finds no C compiler" in warnings(caplog)


@pytest.mark.parametrize(
    ("options", "mode"),
    [
        (Qwen3Options(), "max-autotune"),
        (Qwen3Options(torch_compile=True), "max-autotune"),
        (Qwen3Options(torch_compile_mode="reduce-overhead"), "reduce-overhead"),
        (Qwen3Options(torch_compile=True, torch_compile_mode="default"), "default"),
        (Qwen3Options(torch_compile=False), "off"),
        (Qwen3Options(torch_compile=False, torch_compile_mode="max-autotune"), "off"),
        (Qwen3Options(torch_compile_mode="off"), "off"),
    ],
)
def test_torch_compile_says_whether_and_the_mode_says_how(options: Qwen3Options, mode: str) -> None:
    refuse_unsupported(options)
    assert compile_mode(options) == mode


def test_compiling_in_no_mode_is_refused() -> None:
    with pytest.raises(SettingsError, match="torch_compile"):
        refuse_unsupported(Qwen3Options(torch_compile=True, torch_compile_mode="off"))


@pytest.mark.parametrize("version", ["2.6.0+cu124", "2.7.1", "1.13"])
def test_an_old_torch_is_refused_by_name(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", version)
    with pytest.raises(SetupError, match="too old") as caught:
        choose_place(Qwen3Options(device="cpu"))
    assert version in caught.value.message


@pytest.mark.parametrize("version", ["2.8.0", "2.13.0+cpu", "3.0.0a0+git123"])
def test_a_newer_one_is_not(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", version)
    assert choose_place(Qwen3Options(device="cpu")).device.type == "cpu"


def test_a_gpu_without_kernels_is_told(caplog: pytest.LogCaptureFixture) -> None:
    kernels = chooser.chosen(torch.device("cpu"), torch.float32)
    for kind in ("cpu", "cuda"):
        state = SimpleNamespace(hidden=SimpleNamespace(device=torch.device(kind)))
        assert fused_talker(None, kernels, state) is None  # type: ignore[arg-type]
    assert warnings(caplog).count("No kernels on this GPU") == 1


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(("asked", "used"), [(0, 3), (2, 2)])
def test_threads_are_half_the_cores_unless_set(
    asked: int, used: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "half_the_cores", lambda: 3)
    assert choose_place(Qwen3Options(threads=asked)).details()["threads"] == used


@pytest.mark.parametrize("value", [True, "false"])
def test_an_option_that_is_gone_is_refused_with_what_to_do(value: object) -> None:
    with pytest.raises(SettingsError, match=r"'one_launch' any more: .* Leave it out") as caught:
        create({"device": "cpu", "one_launch": value})
    assert caught.value.param == "one_launch"
