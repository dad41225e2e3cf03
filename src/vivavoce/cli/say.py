"""``vivavoce say``: speak a text to the loudspeaker, a file, or standard output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vivavoce.cli.options import (
    ConfigOption,
    EngineOption,
    FileOption,
    LanguageOption,
    LexiconOption,
    ModelOption,
    NormalizeOption,
    SetOption,
    SsmlOption,
    TextArgument,
    VoiceOption,
    settings_from,
    typed_pairs,
)
from vivavoce.cli.target import Target
from vivavoce.errors import InputError

if TYPE_CHECKING:
    from vivavoce.settings import Settings
    from vivavoce.speech.synthesizer import Synthesizer
    from vivavoce.types import ReferenceAudio


def say(
    text: TextArgument = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Write a file; - is standard output.")
    ] = None,
    play: Annotated[
        bool, typer.Option("--play", help="Play it (what happens without -o).")
    ] = False,
    file: FileOption = None,
    voice: VoiceOption = None,
    engine: EngineOption = None,
    model: ModelOption = None,
    speed: Annotated[float, typer.Option(help="0.25 to 4.")] = 1.0,
    language: LanguageOption = None,
    seed: Annotated[int | None, typer.Option(help="The same seed, the same sound.")] = None,
    encoding: Annotated[
        str | None,
        typer.Option("--format", help="wav, mp3, opus, …; if not said, by the file's ending."),
    ] = None,
    sample_rate: Annotated[
        int | None,
        typer.Option("--sample-rate", help="8000 to 48000; if not said, the voice's own."),
    ] = None,
    normalize: NormalizeOption = True,
    ssml: SsmlOption = False,
    lexicon: LexiconOption = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", help="An engine's option, name=value.")
    ] = None,
    instructions: Annotated[
        str | None, typer.Option("--instructions", help="How to speak, where the model can.")
    ] = None,
    ref_audio: Annotated[
        Path | None, typer.Option("--ref-audio", help="A recording to speak like.")
    ] = None,
    ref_text: Annotated[
        str | None, typer.Option("--ref-text", help="What the recording says.")
    ] = None,
    ref_silence: Annotated[
        float | None, typer.Option("--ref-silence", help="Seconds of silence put after it.")
    ] = None,
    greedy: Annotated[
        bool, typer.Option("--greedy", help="Always the likeliest code, no drawing.")
    ] = False,
    text_layout: Annotated[
        str | None, typer.Option("--text-layout", help="streaming or whole.")
    ] = None,
    max_frames: Annotated[
        int | None, typer.Option("--max-frames", help="The most frames (80 ms each).")
    ] = None,
    codes: Annotated[
        Path | None,
        typer.Option(
            "--codes",
            help="Say it as one utterance and write its codes (.npy); without -o or --play the"
            " sound goes into a .wav beside them.",
        ),
    ] = None,
    tokens: Annotated[
        Path | None,
        typer.Option("--tokens", help="The same with engine neutts: its speech tokens (.npy)."),
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda.")] = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="float32, bfloat16 or float16.")
    ] = None,
    config: ConfigOption = None,
    sets: SetOption = None,
) -> None:
    """Speak a text."""
    from vivavoce.cli.source import read_text
    from vivavoce.cli.speaking import open_synthesizer

    if play and output is not None:
        raise InputError("Choose one of --play and -o.")
    if codes is not None and tokens is not None:
        raise InputError("Choose one of --codes and --tokens.")
    written = codes or tokens
    if written is not None and output is None and not play:
        output = str(written.with_suffix(".wav"))
    target = Target(output, encoding, sample_rate)
    target.check()
    reference = _reference(ref_audio, ref_text)
    settings = settings_from(config, sets, engine=engine, model_id=model)
    engine_options = _said(dtype=dtype, reference_silence_s=ref_silence) | _devices(
        settings, device
    )
    settings = settings.with_engine_options(engine_options)
    said = _said(greedy=greedy or None, text_layout=text_layout, max_frames=max_frames)
    how: dict[str, Any] = {
        "voice": voice,
        "speed": speed,
        "language": language,
        "seed": seed,
        "normalize": normalize,
        "ssml": ssml,
        "instructions": instructions,
        "options": typed_pairs(option or (), "--option") | said,
    }
    wanted = read_text(text, file)
    if written is not None:
        from vivavoce.cli.codes import CodesOrder, say_codes
        from vivavoce.cli.tokens import say_tokens

        order = CodesOrder(wanted, written, how | {"lexicon": lexicon}, reference)
        (say_codes if tokens is None else say_tokens)(settings, order, target)
        return
    how["clone_from"] = reference
    with open_synthesizer(settings, lexicon, max_chars=len(wanted)) as synthesizer:
        _speak(synthesizer, wanted, how, target)


def _reference(audio: Path | None, transcript: str | None) -> ReferenceAudio | None:
    """The recording to speak like. Raises InvalidAudio, InputError."""
    if audio is None:
        if transcript is not None:
            raise InputError("--ref-text needs --ref-audio.", param="ref_text")
        return None
    from vivavoce.runtime.decoding import decode_file
    from vivavoce.types import ReferenceAudio

    samples, sample_rate_hz = decode_file(audio, param="ref_audio")
    return ReferenceAudio(samples, sample_rate_hz, transcript)


def _said(**given: Any) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def _devices(settings: Settings, device: str | None) -> dict[str, Any]:
    """The engine's options for ``--device``."""
    from vivavoce.engines.registry import device_options

    return {} if device is None else dict.fromkeys(device_options(settings.engine), device)


def _speak(synthesizer: Synthesizer, text: str, how: dict[str, Any], target: Target) -> None:
    """Stream the speech into the target; whatever goes wrong, the engine stops at once."""
    from vivavoce.cli.progress import progress

    with synthesizer.stream(text, **how) as chunks, target.open(chunks.sample_rate_hz) as sink:
        for name in chunks.ignored:
            typer.echo(f"vivavoce: this engine has no use for {name}", err=True)
        with progress(_clause_chars(synthesizer, text, how)) as report:
            for chunk in chunks:
                sink.push(chunk)
                report(chunk.clause, chunks.timings.audio_s)
            sink.finish()


def _clause_chars(synthesizer: Synthesizer, text: str, how: dict[str, Any]) -> list[int]:
    """How long each clause or group is; empty for a text too short to show progress for."""
    from vivavoce.cli.progress import LONG_TEXT_CHARS
    from vivavoce.speech.request import group_seconds
    from vivavoce.speech.synthesizer import make_request
    from vivavoce.text import TextOptions, clauses, grouped
    from vivavoce.text.languages import language_code

    if len(text) < LONG_TEXT_CHARS:
        return []
    language = None if how["language"] is None else language_code(how["language"])
    options = TextOptions(
        language, how["normalize"], how["ssml"], synthesizer.service.options.lexicon
    )
    group_s = group_seconds(make_request(text, **how), synthesizer.info)
    return [len(clause.text) for clause in grouped(clauses(text, options), group_s)]
