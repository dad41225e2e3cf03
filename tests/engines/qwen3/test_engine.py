"""The engine on tiny random checkpoints: every mode, joining and leaving, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vivavoce.engines.base import Produced
from vivavoce.engines.loop import EngineLoop
from vivavoce.engines.qwen3 import create
from vivavoce.engines.qwen3.engine import Qwen3Engine
from vivavoce.errors import (
    EmptyInput,
    EngineError,
    InputError,
    InvalidAudio,
    ModelFileError,
    SettingsError,
    Unavailable,
    UnknownVoice,
    Unsupported,
)
from vivavoce.types import ReferenceAudio, Samples, Sampling, Span, Utterance, Voice

FRAME = 1920
LONG = "A sentence that goes on for longer than a few frames."
Checkpoints = Callable[[str], Path]


@pytest.fixture(scope="module")
def made(tiny_checkpoint: Checkpoints) -> Iterator[Callable[[str], Qwen3Engine]]:
    """Loaded engines by the end of their model's name, each once."""
    engines: dict[str, Qwen3Engine] = {}

    def of(name: str) -> Qwen3Engine:
        if name not in engines:
            options = {"model": tiny_checkpoint(name), "device": "cpu", "threads": 1}
            engine = create(options | {"positions": 256})
            assert isinstance(engine, Qwen3Engine)
            engine.load()
            engines[name] = engine
        return engines[name]

    yield of
    for engine in engines.values():
        assert engine.step() == [], "a test left an utterance behind"
        engine.unload()


@pytest.fixture
def speakers(made: Callable[[str], Qwen3Engine]) -> Qwen3Engine:
    return made("0.6B-CustomVoice")


@pytest.fixture
def base(made: Callable[[str], Qwen3Engine]) -> Qwen3Engine:
    return made("0.6B-Base")


def noise(seconds: float = 1.5, rate_hz: int = 16_000, seed: int = 0) -> Samples:
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(round(seconds * rate_hz))).astype(np.float32)


def recording(transcript: str | None = None, **how: Any) -> ReferenceAudio:
    return ReferenceAudio(noise(**how), how.get("rate_hz", 16_000), transcript)


def saying(engine: Qwen3Engine, text: str = "Hello.", frames: int = 6, **how: Any) -> Utterance:
    """An utterance of at most so many frames, drawn with seed 7 unless ``how`` says else."""
    options = {"max_frames": frames, "guards": False} | how.pop("options", {})
    whole: dict[str, Any] = {"voice": engine.voices()[0], "sampling": Sampling(seed=7)} | how
    return Utterance((Span(text),), options=options, **whole)


def run(engine: Qwen3Engine, slots: Sequence[int], steps: int = 400) -> dict[int, list[Produced]]:
    """Step until all the slots have ended."""
    pieces: dict[int, list[Produced]] = {slot: [] for slot in slots}
    live = set(slots)
    for _ in range(steps):
        if not live:
            return pieces
        for produced in engine.step():
            pieces[produced.slot].append(produced)
            if produced.last:
                live.remove(produced.slot)
    raise AssertionError("it never ended")


def spoken(engine: Qwen3Engine, utterance: Utterance) -> tuple[np.ndarray, Samples, Produced]:
    """Codes [T, 16], sound, and the last piece."""
    slot = engine.admit(utterance)
    codes = engine.record(slot)
    pieces = run(engine, [slot])[slot]
    return np.stack(codes), np.concatenate([piece.samples for piece in pieces]), pieces[-1]


def test_every_frame_is_counted_once(speakers: Qwen3Engine) -> None:
    slot = speakers.admit(saying(speakers, "How many?"))
    codes = speakers.record(slot)
    pieces = run(speakers, [slot])[slot]
    assert sum(piece.tokens for piece in pieces) == len(codes) > 0
    assert len({piece.first_token_s for piece in pieces}) == 1
    assert pieces[0].first_token_s is not None


MODES = {
    "speaker": ("0.6B-CustomVoice", None, {}),
    "speaker, whole text": ("0.6B-CustomVoice", None, {"options": {"text_layout": "whole"}}),
    "instructed": ("1.7B-CustomVoice", None, {"instructions": "Whisper."}),
    "design": ("1.7B-VoiceDesign", None, {"instructions": "An old man."}),
    "x-vector": ("0.6B-Base", recording(), {}),
    "in context": ("0.6B-Base", recording("What was said."), {}),
    "in context, whole": (
        "0.6B-Base", recording("What was said."), {"options": {"text_layout": "whole"}}
    ),
    "in context, wide": ("1.7B-Base", recording("What was said."), {}),
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_speaks(made: Callable[[str], Qwen3Engine], mode: str) -> None:
    model, reference, how = MODES[mode]
    engine = made(model)
    if reference is not None:
        how = how | {"voice": engine.clone(reference)}
    utterance = saying(engine, language="en", **how)
    engine.validate(utterance)
    codes, sound, last = spoken(engine, utterance)
    assert last.error is None and last.finish_reason in ("stop", "length")
    assert codes.shape[1] == 16 and len(sound) == len(codes) * FRAME
    assert codes.min() >= 0 and codes.max() < 2048
    assert np.abs(sound).max() > 0.01


def test_instructions_and_language_alter_what_is_said(made: Callable[[str], Qwen3Engine]) -> None:
    engine = made("1.7B-CustomVoice")
    usual = saying(engine)
    plain, _, _ = spoken(engine, usual)
    for other in (replace(usual, instructions="Shout."), replace(usual, language="de")):
        assert not np.array_equal(spoken(engine, other)[0], plain)


def test_the_first_sound_is_one_frame_and_chunks_grow(speakers: Qwen3Engine) -> None:
    """However long it speaks: 1, 2, 4, 8, then what is left."""
    longest: list[int] = []
    for seed in range(6):
        slot = speakers.admit(saying(speakers, LONG, frames=17, sampling=Sampling(seed=seed)))
        sizes = [len(piece.samples) // FRAME for piece in run(speakers, [slot])[slot]]
        assert sizes[0] == 1
        assert all(size == due for size, due in zip(sizes[:-1], (1, 2, 4, 8), strict=False))
        longest = max(longest, sizes, key=sum)
    assert sum(longest) > 7, "no seed spoke for long enough to see the ramp"


def test_company_does_not_alter_codes_or_sound(made: Callable[[str], Qwen3Engine]) -> None:
    engine = made("0.6B-Base")
    voices = [engine.voices()[0], engine.clone(recording()), engine.clone(recording("Some words."))]
    wanted = [
        saying(engine, text, frames, voice=voice, sampling=Sampling(seed=seed))
        for seed, (text, frames, voice) in enumerate(
            zip(("One.", "Two and more.", LONG), (9, 4, 12), voices, strict=True)
        )
    ]
    alone = [spoken(engine, each) for each in wanted]
    slots, codes, pieces = [], [], {}
    for each in wanted:
        slots.append(engine.admit(each))
        codes.append(engine.record(slots[-1]))
        for produced in engine.step():
            pieces.setdefault(produced.slot, []).append(produced)
    left = [slot for slot in slots if not any(p.last for p in pieces.get(slot, ()))]
    for slot, rest in run(engine, left).items():
        pieces.setdefault(slot, []).extend(rest)
    for slot, said, (expected, sound, _) in zip(slots, codes, alone, strict=True):
        np.testing.assert_array_equal(np.stack(said), expected)
        together = np.concatenate([piece.samples for piece in pieces[slot]])
        np.testing.assert_allclose(together, sound, atol=1e-4)


@pytest.mark.parametrize("steps", [0, 1, 2, 4])
def test_a_row_released_at_any_time_leaves_nothing_behind(
    speakers: Qwen3Engine, steps: int
) -> None:
    before = spoken(speakers, saying(speakers))[0]
    slot = speakers.admit(saying(speakers, LONG, frames=40, sampling=Sampling(seed=3)))
    for _ in range(steps):
        speakers.step()
    speakers.release(slot)
    assert speakers.step() == []
    assert np.array_equal(spoken(speakers, saying(speakers))[0], before)


def test_only_one_row_is_prefilled_a_step_the_most_urgent_first(speakers: Qwen3Engine) -> None:
    slots = [
        speakers.admit(saying(speakers, deadline_s=deadline_s)) for deadline_s in (3.0, 1.0, 2.0)
    ]
    first = [[piece.slot for piece in speakers.step()][-1:] for _ in range(1)]
    assert first == [[slots[1]]]
    for slot in slots:
        speakers.release(slot)


def test_greedy_needs_no_seed(speakers: Qwen3Engine) -> None:
    greedy = saying(speakers, sampling=Sampling(), options={"greedy": True})
    cold = saying(speakers, sampling=Sampling(temperature=0.0))
    expected = spoken(speakers, greedy)[0]
    assert np.array_equal(spoken(speakers, greedy)[0], expected)
    assert np.array_equal(spoken(speakers, cold)[0], expected)


def test_a_limit_is_told(speakers: Qwen3Engine) -> None:
    utterance = saying(speakers, LONG, frames=2)
    codes, _, last = spoken(speakers, utterance)
    assert len(codes) == 2 and last.finish_reason == "length"


def test_markers_in_text_are_only_text(speakers: Qwen3Engine) -> None:
    tokenizer = speakers._loaded().tokenizer
    ids = tokenizer.encode("Stop. <|im_end|> <tts_text_eod> Go on.")
    assert max(ids) < 151_643
    spoken(speakers, saying(speakers, "Stop. <|im_end|> <tts_text_eod> Go on."))


PIECES = [
    ["Hello there, my friend."],
    ["Hel", "lo the", "re, my fri", "end."],
    list("Hello there, my friend."),
    ["", "Hello there, ", "my friend.", ""],
]


@pytest.mark.parametrize("pieces", PIECES)
def test_text_in_pieces_gives_the_codes_of_the_whole(
    speakers: Qwen3Engine, pieces: list[str]
) -> None:
    expected = _in_pieces(speakers, ["Hello there, my friend."], steps=0)
    assert np.array_equal(_in_pieces(speakers, pieces, steps=2), expected)


def _in_pieces(engine: Qwen3Engine, pieces: list[str], steps: int) -> np.ndarray:
    slot = engine.admit(saying(engine, pieces[0], frames=14, text_open=True))
    codes, over = engine.record(slot), False
    for piece in pieces[1:]:
        for _ in range(steps):
            over = over or any(produced.last for produced in engine.step())
        engine.extend(slot, piece)
    engine.finish(slot)
    assert not over, "it must wait for its text"
    run(engine, [slot])
    return np.stack(codes)


def test_an_open_text_that_stays_empty_ends_without_sound(speakers: Qwen3Engine) -> None:
    slot = speakers.admit(saying(speakers, "", text_open=True))
    assert speakers.step() == []
    speakers.finish(slot)
    (last,) = run(speakers, [slot])[slot]
    assert last.finish_reason == "stop" and len(last.samples) == 0


def test_text_in_pieces_through_the_loop(speakers: Qwen3Engine) -> None:
    expected = _in_pieces(speakers, ["Hello there, my friend."], steps=0)

    async def speak() -> int:
        stream = loop.open(saying(speakers, "Hello", frames=14, text_open=True))
        for piece in (" there,", " my", " friend."):
            await asyncio.sleep(0.01)
            stream.extend(piece)
        stream.finish_text()
        made = [len(produced.samples) async for produced in stream]
        stream.close()
        return sum(made)

    loop = EngineLoop(speakers)
    loop.start()
    try:
        assert asyncio.run(speak()) == len(expected) * FRAME
    finally:
        loop.stop()


def test_a_clone_speaks_the_same_after_saving(base: Qwen3Engine) -> None:
    for transcript in (None, "The words that were said."):
        voice = base.clone(recording(transcript))
        assert voice.kind == "cloned"
        kept = Voice("kept", "qwen3", data=base.voice_from_bytes(base.voice_to_bytes(voice)))
        fresh = spoken(base, saying(base, voice=voice))
        again = spoken(base, saying(base, voice=kept))
        np.testing.assert_array_equal(again[0], fresh[0])
        np.testing.assert_array_equal(again[1], fresh[1])


def test_a_clone_in_context_continues_the_recordings_sound(base: Qwen3Engine) -> None:
    """The codec goes on where the recording ended, as if it had decoded both."""
    voice = base.clone(recording("The words that were said."))
    codes, sound, _ = spoken(base, saying(base, voice=voice))
    model = base._loaded()
    both = np.concatenate([voice.data.codes, codes])
    with torch.no_grad():
        whole = model.codec.decode(torch.from_numpy(both)[None], model.codec.init_state(1))
    np.testing.assert_allclose(sound, whole[0, -len(sound) :].numpy(), atol=3e-4)


def test_other_rates_and_the_silence_at_the_end(base: Qwen3Engine) -> None:
    short = base.clone(recording(seconds=2.0, rate_hz=44_100)).data
    assert short.codes is None
    frames = len(base.clone(recording("PromptRequest.", seconds=2.0, rate_hz=8_000)).data.codes)
    assert frames == 32  # 2.5 s, the half second of silence included


BAD_RECORDINGS = {
    "nothing": np.zeros(0, np.float32),
    "one sample": np.ones(1, np.float32),
    "silence": np.zeros(48_000, np.float32),
    "half an hour": np.ones(1800 * 8_000, np.float32),
    "not a number": np.full(48_000, np.nan, np.float32),
}


@pytest.mark.parametrize("samples", BAD_RECORDINGS.values(), ids=BAD_RECORDINGS.keys())
def test_recordings_that_cannot_be_used(base: Qwen3Engine, samples: Samples) -> None:
    with pytest.raises(InvalidAudio):
        base.clone(ReferenceAudio(samples, 8_000))


@pytest.mark.parametrize("transcript", ["", "  \n", "many words " * 400])
def test_transcripts_that_cannot_be(base: Qwen3Engine, transcript: str) -> None:
    with pytest.raises(InputError) as caught:
        base.clone(recording(transcript))
    assert caught.value.param == "ref_text"


def test_a_speaker_model_clones_nothing(speakers: Qwen3Engine) -> None:
    with pytest.raises(Unsupported):
        speakers.clone(recording())


@pytest.mark.parametrize(
    ("how", "param"),
    [
        ({"voice": Voice("nobody", "qwen3")}, "voice"),
        ({"language": "klingon"}, "language"),
        ({"instructions": "Whisper."}, "instructions"),
        ({"options": {"no_such": 1}}, "no_such"),
        ({"options": {"top_k": -1}}, "top_k"),
        ({"options": {"repetition_penalty": 0}}, "repetition_penalty"),
        ({"options": {"text_layout": "sideways"}}, "text_layout"),
        ({"sampling": Sampling(temperature=-1.0)}, "temperature"),
        ({"sampling": Sampling(top_p=0.0)}, "top_p"),
        ({"text_open": True, "options": {"text_layout": "whole"}}, "text_layout"),
    ],
)
def test_what_is_refused_names_the_field(
    speakers: Qwen3Engine, how: dict[str, Any], param: str
) -> None:
    for refuse in (speakers.validate, speakers.admit):
        with pytest.raises(InputError) as caught:
            refuse(saying(speakers, **how))
        assert caught.value.param == param
    assert speakers.step() == []


def test_nothing_to_say_is_refused(speakers: Qwen3Engine) -> None:
    with pytest.raises(EmptyInput):
        speakers.admit(saying(speakers, "  "))


def test_a_design_needs_a_description(made: Callable[[str], Qwen3Engine]) -> None:
    engine = made("1.7B-VoiceDesign")
    with pytest.raises(InputError) as caught:
        engine.validate(saying(engine))
    assert caught.value.param == "instructions"


def test_a_base_model_speaks_as_clones_only(base: Qwen3Engine) -> None:
    with pytest.raises(UnknownVoice):
        base.validate(saying(base, voice=Voice("ryan", "qwen3")))
    with pytest.raises(Unsupported):
        base.validate(saying(base, instructions="Whisper."))
    in_context = base.clone(recording("PromptRequest."))
    with pytest.raises(Unsupported):
        base.validate(saying(base, voice=in_context, text_open=True))


def test_a_voice_of_another_model_is_refused(made: Callable[[str], Qwen3Engine]) -> None:
    wide, narrow = made("1.7B-Base"), made("0.6B-Base")
    voice = narrow.clone(recording())
    with pytest.raises(InputError, match="another model"):
        wide.validate(saying(wide, voice=voice))


def test_a_prompt_that_leaves_no_room_ends_alone(speakers: Qwen3Engine) -> None:
    whole = {"text_layout": "whole"}
    long = speakers.admit(saying(speakers, "word " * 400, options=whole))
    short = speakers.admit(saying(speakers))
    pieces = run(speakers, [long, short])
    assert isinstance(pieces[long][-1].error, InputError)
    assert pieces[short][-1].error is None


def test_a_row_that_breaks_ends_alone(speakers: Qwen3Engine) -> None:
    before = spoken(speakers, saying(speakers, LONG))[0]
    good, bad = speakers.admit(saying(speakers, LONG)), speakers.admit(saying(speakers, LONG))
    codes = speakers.record(good)
    speakers.step()
    speakers.step()
    assert speakers._batch is not None
    state = speakers._batch._rows.state
    state.hidden[bad], state.pending[bad] = torch.nan, torch.nan
    pieces = run(speakers, [good, bad])
    assert isinstance(pieces[bad][-1].error, EngineError)
    assert pieces[good][-1].error is None
    assert np.array_equal(np.stack(codes), before)
    assert np.array_equal(spoken(speakers, saying(speakers, LONG))[0], before)
    healthy = [speakers.admit(saying(speakers, LONG)) for _ in range(speakers.capacity)]
    assert all(p[-1].error is None for p in run(speakers, healthy).values())


def test_a_code_outside_the_codebook_never_reaches_the_codec(
    speakers: Qwen3Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vivavoce.engines.qwen3.batch import PendingFrame

    slot = speakers.admit(saying(speakers))
    real = PendingFrame.result

    def spoilt(pending: PendingFrame) -> Any:
        frame = real(pending)
        frame.codes[:, 3] = 2048
        return frame

    monkeypatch.setattr(PendingFrame, "result", spoilt)
    (last,) = run(speakers, [slot])[slot]
    assert isinstance(last.error, EngineError) and len(last.samples) == 0


def test_loops_end_as_length(speakers: Qwen3Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vivavoce.engines.qwen3.row_speech.LOOP_FRAMES", 4)
    monkeypatch.setattr("vivavoce.engines.qwen3.row_speech.LOOP_PERIODS", 2)
    monkeypatch.setattr("vivavoce.engines.qwen3.row_speech.LOOP_SHARE", 0.0)
    guarded = saying(speakers, LONG, frames=40, options={"guards": True})
    codes, _, last = spoken(speakers, replace(guarded, sampling=Sampling(seed=5)))
    assert last.finish_reason == "length" and len(codes) == 6


def test_unload_gives_everything_back(tiny_checkpoint: Checkpoints) -> None:
    engine = create({"model": tiny_checkpoint("0.6B-CustomVoice"), "device": "cpu", "threads": 1})
    assert engine.voices()[0].id == "serena"
    assert engine.info.details["loaded"] is False
    engine.load()
    assert engine.info.details["dtype"] == "float32" and engine.info.details["torch"]
    slot = engine.admit(Utterance((Span("Cut."),), engine.voices()[0]))
    engine.step()
    engine.release(slot)
    engine.unload()
    assert engine.step() == []
    with pytest.raises(Unavailable):
        engine.admit(Utterance((Span("No."),), engine.voices()[0]))


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"quantize": "int3"}, "quantize"),
        ({"quantize": "fp8", "device": "cpu"}, "quantize"),
        ({"cuda_graphs": True, "device": "cpu"}, "cuda_graphs"),
        ({"torch_compile_mode": "fastest"}, "torch_compile_mode"),
        ({"torch_compile": True, "device": "cpu"}, "torch_compile"),
        ({"gpu_memory_budget_mb": 4096, "device": "cpu"}, "gpu_memory_budget_mb"),
        ({"nonsense": 1}, "nonsense"),
        ({"dtype": "float8"}, "dtype"),
    ],
)
def test_options_that_are_not_there(options: dict[str, Any], param: str) -> None:
    with pytest.raises(SettingsError) as caught:
        create(options)
    assert caught.value.param is not None and param in caught.value.param


def test_a_device_that_is_not_there(tiny_checkpoint: Checkpoints) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    engine = create({"model": tiny_checkpoint("0.6B-CustomVoice"), "device": "cuda"})
    with pytest.raises(SettingsError, match="CUDA"):
        engine.load()


def test_a_folder_without_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError):
        create({"model": str(tmp_path), "device": "cpu"}).load()


def test_reduced_precision_speaks(tiny_checkpoint: Checkpoints) -> None:
    for dtype in ("bfloat16", "float16"):
        options = {"model": tiny_checkpoint("0.6B-CustomVoice"), "device": "cpu", "threads": 1}
        engine = create(options | {"dtype": dtype, "positions": 64, "capacity": 1})
        assert isinstance(engine, Qwen3Engine)
        engine.load()
        _, sound, last = spoken(engine, saying(engine, frames=3))
        assert last.error is None and len(sound) >= 2 * FRAME
        engine.unload()


def test_what_a_voices_prompts_begin_with_is_computed_once(
    made: Callable[[str], Qwen3Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = made("0.6B-Base")
    talker, lengths = engine._loaded().talker, list[int]()
    prefill = talker.prefill

    def noting(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        lengths.append(x.shape[1])
        return prefill(x, *rest)

    monkeypatch.setattr(talker, "prefill", noting)
    one, other = (engine.clone(recording(seed=seed)) for seed in (1, 2))
    utterances = [saying(engine, voice=voice, language="en") for voice in (one, other, one)]
    codes = [spoken(engine, utterance)[0] for utterance in utterances]
    assert lengths == [9, 1, 9, 1, 1]
    np.testing.assert_array_equal(codes[0], codes[2])


def test_text_that_comes_while_the_prompt_is_read_is_said(speakers: Qwen3Engine) -> None:
    """The first step reads what the voice's prompts begin with, where it is new to a language."""

    def said(steps: int) -> np.ndarray:
        slot = speakers.admit(saying(speakers, "Bonjour à", 12, text_open=True, language="fr"))
        codes = speakers.record(slot)
        for _ in range(steps):
            speakers.step()
        speakers.extend(slot, " tous mes amis")
        speakers.finish(slot)
        run(speakers, [slot])
        return np.stack(codes)

    early = said(1)
    np.testing.assert_array_equal(said(0), early)


def test_an_option_that_sorts_does_not_alter_its_company(speakers: Qwen3Engine) -> None:
    plain, _, _ = spoken(speakers, saying(speakers, LONG, frames=8))
    every = saying(speakers, LONG, frames=8, options={"top_k": 0, "subtalker_top_p": 0.9})
    slots = [speakers.admit(each) for each in (saying(speakers, LONG, frames=8), every)]
    codes = speakers.record(slots[0])
    run(speakers, slots)
    np.testing.assert_array_equal(np.stack(codes), plain)
