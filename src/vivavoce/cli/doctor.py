"""``vivavoce doctor``: what is installed, what will really be used, and whether it speaks.

Each check returns findings; none raises.
"""

from __future__ import annotations

import json
import platform
import re
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from vivavoce.cli.options import EngineOptions, JsonOption, VoiceOption, grouped
from vivavoce.errors import VivavoceError
from vivavoce.runtime.cuda import why_no_cuda
from vivavoce.runtime.derived_files import cache_root
from vivavoce.runtime.machine import usable_cores
from vivavoce.runtime.nvidia import find_driver

if TYPE_CHECKING:
    from vivavoce.engines.base import EngineInfo
    from vivavoce.settings import Settings
    from vivavoce.speech.synthesizer import Synthesizer

TEST_TEXT = "This is a test of the voice, and it should sound like one."
MIB = 1024 * 1024
FOR_DEVELOPERS = ("dev",)
"""Extras that nobody needs who has a server."""
SECRETS = ("api_keys", "keys", "token_secret")
MARKS = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "fault": "[red]FAULT[/]"}
REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*).*;.*extra\s*==\s*['\"]([^'\"]+)['\"]")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; ``facts`` are for machines."""

    name: str
    state: Literal["ok", "note", "fault"]
    summary: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@grouped
def doctor(engine: EngineOptions, voice: VoiceOption = None, as_json: JsonOption = False) -> None:
    """Check this machine: packages, engine and device, folders, sound, a test synthesis."""
    from vivavoce.cli.main import WRONG_SETUP

    findings = diagnose(engine.settings(default_voice=voice))
    healthy = all(finding.state != "fault" for finding in findings)
    if as_json:
        checks = [asdict(finding) for finding in findings]
        print(json.dumps({"ok": healthy, "checks": checks}, indent=2, default=str))
    else:
        print_findings(findings)
        print("It speaks." if healthy else "Something is wrong; see FAULT above.")
    if not healthy:
        raise typer.Exit(WRONG_SETUP)


def print_findings(findings: list[Finding]) -> None:
    """A line for each."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        table.add_row(MARKS[finding.state], finding.name, escape(finding.summary))
    Console().print(table)


def diagnose(settings: Settings) -> list[Finding]:
    """Every check, in the order a person reads them."""
    return [
        machine(),
        *installed_extras(),
        *espeak(),
        *accelerators(),
        loudspeaker(),
        writable("cache folder", cache_root()),
        writable("data folder", settings.data_dir),
        changed_settings(settings),
        *moved_settings(),
        *engine_findings(settings),
    ]


def machine() -> Finding:
    """Versions and processors."""
    facts = {
        "vivavoce": version_of("vivavoce"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": usable_cores(),
    }
    summary = (
        f"vivavoce {facts['vivavoce']}, Python {facts['python']}, "
        f"{facts['cores']} cores, {facts['system']}"
    )
    return Finding("machine", "ok", summary, facts)


def installed_extras() -> list[Finding]:
    """One finding for each extra: its packages' versions, or what is missing."""
    found = []
    for extra, packages in extras().items():
        if extra in FOR_DEVELOPERS:
            continue
        versions = {name: version_of(name) for name in packages}
        missing = [name for name, version in versions.items() if version is None]
        if missing:
            summary = f"not installed (missing: {', '.join(missing)})"
        else:
            summary = ", ".join(f"{name} {version}" for name, version in versions.items())
        state: Literal["ok", "note"] = "note" if missing else "ok"
        found.append(Finding(f"extra {extra}", state, summary, versions))
    return found


def espeak() -> list[Finding]:
    """Whether piper-tts has brought espeak-ng, which turns English into phonemes."""
    package = find_spec("piper")
    if package is None or package.origin is None:
        return []
    data = Path(package.origin).parent / "espeak-ng-data"
    if data.is_dir():
        return [Finding("espeak-ng", "ok", f"inside piper-tts {version_of('piper-tts')}")]
    return [Finding("espeak-ng", "fault", f"this piper-tts has no phoneme data in {data}")]


def accelerators() -> list[Finding]:
    """What ONNX Runtime and torch could compute on, where they are installed."""
    found = []
    if find_spec("onnxruntime") is not None:
        from vivavoce.runtime.onnx import onnx_runtime

        providers = onnx_runtime().get_available_providers()
        facts = {"version": version_of("onnxruntime"), "providers": providers}
        found.append(Finding("ONNX Runtime", "ok", ", ".join(providers), facts))
    if find_spec("torch") is not None:
        found.append(_torch())
    return [*found, _driver()]


def _driver() -> Finding:
    """What NVIDIA's driver says, which is there before anything that computes with it."""
    driver = find_driver()
    if driver is None:
        return Finding("GPU", "note", "no NVIDIA driver was found")
    facts = asdict(driver)
    runs = f"driver {driver.version}, for CUDA up to {driver.cuda[0]}.{driver.cuda[1]}"
    if not driver.gpus:
        return Finding("GPU", "note", f"none is visible; {runs}", facts)
    names = [
        f"{gpu.name} ({gpu.free_bytes // MIB:,} of {gpu.total_bytes // MIB:,} MB free)"
        if gpu.free_bytes is not None and gpu.total_bytes is not None
        else gpu.name
        for gpu in driver.gpus
    ]
    return Finding("GPU", "ok", f"{', '.join(names)}; {runs}", facts)


def _torch() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding("torch", "note", f"installed, but it cannot be imported: {error}")
    if torch.cuda.is_available():
        return Finding("torch", "ok", torch.cuda.get_device_name(), {"cuda": True})
    summary = f"it computes on the CPU alone: {why_no_cuda()}"
    return Finding("torch", "note", summary, {"cuda": False})


def loudspeaker() -> Finding:
    """Whether ``say --play`` would be heard."""
    from vivavoce.audio.playback import Player

    try:
        Player(24_000).stop()
    except VivavoceError as error:
        return Finding("loudspeaker", "note", error.message)
    return Finding("loudspeaker", "ok", "there is one")


def writable(name: str, folder: Path) -> Finding:
    """Whether files can be made in a folder, or the folder itself."""
    nearest = folder
    while not nearest.exists():
        nearest = nearest.parent
    try:
        with tempfile.TemporaryFile(dir=nearest):
            return Finding(name, "ok", str(folder), {"path": str(folder)})
    except OSError as error:
        summary = f"{folder} cannot be written: {error.strerror}"
        return Finding(name, "note", summary, {"path": str(folder)})


def changed_settings(settings: Settings) -> Finding:
    """The settings that differ from their defaults; secrets are only counted."""
    changed: dict[str, Any] = {}
    for name, about in type(settings).model_fields.items():
        value = getattr(settings, name)
        if value != about.get_default(call_default_factory=True):
            changed[name] = f"({len(value)} given)" if name in SECRETS else value
    changed |= changed.pop("engines", {})
    summary = ", ".join(f"{name}={value}" for name, value in changed.items())
    return Finding("settings", "ok", summary or "all as by default", changed)


def moved_settings() -> list[Finding]:
    """Variables of other servers that are set and have no effect here."""
    from vivavoce.settings_faults import moved_variables

    return [Finding("environment", "note", words) for words in moved_variables()]


def engine_findings(settings: Settings) -> list[Finding]:
    """The engine that is used, where it runs and why, and a test synthesis with its timings."""
    from vivavoce.cli.speaking import open_synthesizer

    began_s = time.monotonic()
    try:
        with open_synthesizer(settings) as synthesizer:
            load_s = time.monotonic() - began_s
            tested = _test_synthesis(synthesizer, load_s)
            used = [_engine_used(synthesizer), *_weights(synthesizer), *_card(synthesizer)]
            return [*used, tested]
    except VivavoceError as error:
        return [Finding(f"engine {settings.engine}", "fault", error.message, {"code": error.code})]


def _engine_used(synthesizer: Synthesizer) -> Finding:
    info = synthesizer.info
    voice = synthesizer.service.voices.resolve(None).id
    why = info.details.get("why") or _why(info)
    devices = info.details.get("devices", {})
    where = ", ".join(f"{part} on {device}" for part, device in devices.items())
    summary = (
        f"{info.name} ({info.model}), {where}"
        if where
        else f"{info.name} ({info.model}) on {info.device}"
    )
    summary += f", because {why}" if why else ""
    if attention := info.details.get("attention"):
        summary += f"; attention of {attention}"
    if kernels := info.details.get("kernels"):
        summary += f"; frames by {kernels}"
    summary += f"; voice {voice}, {info.sample_rate_hz} Hz"
    facts = {
        "engine": info.name,
        "model": info.model,
        "device": info.device,
        "voice": voice,
        "sample_rate_hz": info.sample_rate_hz,
        "details": dict(info.details),
    }
    return Finding("engine", "ok", summary, facts)


def _weights(synthesizer: Synthesizer) -> list[Finding]:
    """How the weights of each part are stored, and why."""
    told = synthesizer.info.weights
    words = [f"{part} {stored.precision} ({stored.why})" for part, stored in told.items()]
    facts = {part: stored.precision for part, stored in told.items()}
    return [Finding("weights", "ok", ", ".join(words), facts)] if words else []


def _card(synthesizer: Synthesizer) -> list[Finding]:
    """The card that the engine runs on, once it has spoken."""
    gpu = synthesizer.service.guarded.gpu()
    if gpu is None:
        return []
    sizes = {name: size for name, size in asdict(gpu).items() if name != "name" and size}
    order = ("allocated", "reserved", "free", "total")
    known = (kind for kind in order if f"{kind}_bytes" in sizes)
    words = [f"{sizes[f'{kind}_bytes'] // MIB:,} MB {kind}" for kind in known]
    return [Finding("engine's GPU", "ok", ", ".join([gpu.name, *words]), asdict(gpu))]


def _why(info: EngineInfo) -> str:
    """Why it runs where it runs, for an engine on ONNX Runtime that does not say so itself."""
    providers = info.details.get("providers", ())
    if info.device != "cpu" or not providers:
        return ""
    if "CUDAExecutionProvider" in providers:
        return "the CPU is asked for, though this ONNX Runtime could use CUDA"
    return "this ONNX Runtime has no CUDA provider"


def _test_synthesis(synthesizer: Synthesizer, load_s: float) -> Finding:
    timings = synthesizer.synthesize(TEST_TEXT).timings
    first_ms, total_ms, rtf = timings.first_audio_ms, timings.total_ms, timings.rtf
    if first_ms is None or total_ms is None or rtf is None:
        return Finding("test synthesis", "fault", "the engine made no sound")
    summary = (
        f"loaded in {load_s:.1f} s, first sound after {first_ms:.0f} ms, "
        f"{timings.audio_s:.1f} s of speech in {total_ms:.0f} ms (real-time factor {rtf:.3f})"
    )
    facts = {
        "load_s": load_s,
        "first_audio_ms": first_ms,
        "total_ms": total_ms,
        "audio_s": timings.audio_s,
        "rtf": rtf,
        "stages_ms": dict(timings.stages_ms),
    }
    slow = rtf > 1.0
    if slow:
        summary += "; slower than real time: calls will stutter"
    return Finding("test synthesis", "note" if slow else "ok", summary, facts)


def version_of(distribution: str) -> str | None:
    """The installed version, or None."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def extras() -> dict[str, list[str]]:
    """The extras of vivavoce and the distributions each one brings."""
    found: dict[str, list[str]] = {}
    for requirement in requires("vivavoce") or []:
        if match := REQUIREMENT.match(requirement):
            name, extra = match.groups()
            found.setdefault(extra, []).append(name)
    return found
