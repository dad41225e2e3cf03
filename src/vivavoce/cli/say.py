"""``vivavoce say``: speak a text to the loudspeaker, a file, or standard output."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vivavoce.cli.options import EngineOptions, TextInput, VoiceOption, grouped, typed_pairs
from vivavoce.errors import InputError

if TYPE_CHECKING:
    from vivavoce.cli.outputs import Target
    from vivavoce.settings import Settings
    from vivavoce.speech.synthesizer import Synthesizer
    from vivavoce.types import ReferenceAudio, SpeechRequest


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Where the sound goes."""

    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Write a file; - is standard output.")
    ] = None
    play: Annotated[bool, typer.Option("--play", help="Play it (what happens without -o).")] = False
    encoding: Annotated[
        str | None,
        typer.Option("--format", help="wav, mp3, opus, …; if not said, by the file's ending."),
    ] = None
    sample_rate: Annotated[
        int | None,
        typer.Option("--sample-rate", help="8000 to 48000; if not said, the voice's own."),
    ] = None

    def target(self, beside: Path | None) -> Target:
        """Where it goes, checked; ``beside`` is a file beside which it may go."""
        from vivavoce.cli.outputs import Target

        if self.play and self.output is not None:
            raise InputError("Choose one of --play and -o.")
        output = self.output
        if beside is not None and output is None and not self.play:
            output = str(beside.with_suffix(".wav"))
        target = Target(output, self.encoding, self.sample_rate)
        target.check()
        return target


@dataclass(frozen=True, slots=True)
class SpeakingOptions:
    """As whom and how it is spoken."""

    voice: VoiceOption = None
    speed: Annotated[float, typer.Option(help="0.25 to 4.")] = 1.0
    seed: Annotated[int | None, typer.Option(help="The same seed, the same sound.")] = None
    instructions: Annotated[
        str | None, typer.Option("--instructions", help="How to speak, where the model can.")
    ] = None
    option: Annotated[
        list[str] | None, typer.Option("--option", help="An engine's option, name=value.")
    ] = None
    greedy: Annotated[
        bool, typer.Option("--greedy", help="Always the likeliest code, no drawing.")
    ] = False
    text_layout: Annotated[
        str | None, typer.Option("--text-layout", help="streaming or whole.")
    ] = None
    max_frames: Annotated[
        int | None, typer.Option("--max-frames", help="The most frames (80 ms each).")
    ] = None

    def request(self, wanted: TextInput, reference: ReferenceAudio | None) -> SpeechRequest:
        """What is asked of the engine."""
        from vivavoce.types import Sampling, SpeechRequest

        said = given(
            greedy=self.greedy or None, text_layout=self.text_layout, max_frames=self.max_frames
        )
        return SpeechRequest(
            wanted.read(),
            voice=self.voice,
            language=wanted.language,
            speed=self.speed,
            instructions=self.instructions,
            sampling=Sampling(seed=self.seed),
            normalize=wanted.normalize,
            ssml=wanted.ssml,
            reference=reference,
            options=typed_pairs(self.option or (), "--option") | said,
        )


@dataclass(frozen=True, slots=True)
class ReferenceOptions:
    """A recording to speak like."""

    ref_audio: Annotated[
        Path | None, typer.Option("--ref-audio", help="A recording to speak like.")
    ] = None
    ref_text: Annotated[str | None, typer.Option("--ref-text", help="What the recording says.")] = (
        None
    )
    ref_silence: Annotated[
        float | None, typer.Option("--ref-silence", help="Seconds of silence put after it.")
    ] = None

    def read(self) -> ReferenceAudio | None:
        """The recording. Raises InvalidAudio, InputError."""
        if self.ref_audio is None:
            if self.ref_text is not None:
                raise InputError("--ref-text needs --ref-audio.", param="ref_text")
            return None
        from vivavoce.runtime.decoding import decode_file
        from vivavoce.types import ReferenceAudio

        samples, sample_rate_hz = decode_file(self.ref_audio, param="ref_audio")
        return ReferenceAudio(samples, sample_rate_hz, self.ref_text)


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """Where codes go, if they are wanted."""

    codes: Annotated[
        Path | None,
        typer.Option(
            "--codes",
            help="Say it as one utterance and write its codes (.npy); without -o or --play the"
            " sound goes into a .wav beside them.",
        ),
    ] = None
    tokens: Annotated[
        Path | None,
        typer.Option("--tokens", help="The same, for engines whose codes are speech tokens."),
    ] = None

    @property
    def file(self) -> Path | None:
        """The file that is to be written. Raises InputError where there are two."""
        if self.codes is not None and self.tokens is not None:
            raise InputError("Choose one of --codes and --tokens.")
        return self.codes or self.tokens


@dataclass(frozen=True, slots=True)
class DeviceOptions:
    """Where the engine computes."""

    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda.")] = None
    dtype: Annotated[str | None, typer.Option("--dtype", help="float32, bfloat16 or float16.")] = (
        None
    )


@grouped
def say(
    text: TextInput,
    output: OutputOptions,
    speaking: SpeakingOptions,
    reference: ReferenceOptions,
    recorded: RecordOptions,
    device: DeviceOptions,
    engine: EngineOptions,
) -> None:
    """Speak a text."""
    from vivavoce.cli.speaking import lexicon_of, open_synthesizer

    target = output.target(recorded.file)
    recording = reference.read()
    settings = _settings(engine, device, reference)
    request = speaking.request(text, recording)
    if recorded.file is not None:
        from vivavoce.cli.record import RecordOrder, record

        flag = "--codes" if recorded.tokens is None else "--tokens"
        lexicon = lexicon_of(settings, text.lexicon)
        record(settings, RecordOrder(request, recorded.file, flag, lexicon), target)
        return
    chars = len(request.text)
    with open_synthesizer(settings, text.lexicon, max_chars=chars) as synthesizer:
        _speak(synthesizer, request, target)


def given(**options: Any) -> dict[str, Any]:
    """Those options that somebody gave."""
    return {name: value for name, value in options.items() if value is not None}


def _settings(engine: EngineOptions, where: DeviceOptions, reference: ReferenceOptions) -> Settings:
    """The settings with the engine's options that have a name of their own here."""
    from vivavoce.engines.registry import device_options

    settings = engine.settings()
    own = given(dtype=where.dtype, reference_silence_s=reference.ref_silence)
    if where.device is not None:
        own |= dict.fromkeys(device_options(settings.engine), where.device)
    return settings.with_engine_options(own)


def _speak(synthesizer: Synthesizer, request: SpeechRequest, target: Target) -> None:
    """Stream the speech into the target; whatever goes wrong, the engine stops at once."""
    from vivavoce.cli.outputs import progress

    with synthesizer.open(request) as chunks, target.open(chunks.sample_rate_hz) as output:
        for name in chunks.ignored:
            typer.echo(f"vivavoce: this engine has no use for {name}", err=True)
        with progress(request.text, request.speed) as report:
            for chunk in chunks:
                output.push(chunk)
                report(chunks.timings.audio_s)
            output.finish()
