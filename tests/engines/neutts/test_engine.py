"""The engine around parts that compute nothing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("piper", reason="the extra 'neutts' is not installed")

from engines.neutts.stubs import StubBackbone, StubCodec, codes_of, sound_of
from vivavoce.engines.base import Produced
from vivavoce.engines.neutts.engine import NeuTTSEngine
from vivavoce.engines.neutts.family import TWO_E
from vivavoce.engines.neutts.options import NeuTTSOptions
from vivavoce.engines.neutts.schedule import RAMPS, SMALLEST_SLICE, UNHEARD_SLICE
from vivavoce.engines.neutts.voices import ReferenceVoice
from vivavoce.errors import EmptyInput, EngineError, InputError, Unsupported, VivavoceError
from vivavoce.runtime.worker_pool import Done, WorkerPool
from vivavoce.types import Samples, Sampling, Span, Utterance, Voice

Make = Callable[..., NeuTTSEngine]
LIMIT = 200_000


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[NeuTTSEngine] = []

    def build(
        backbone: StubBackbone | None = None, codec: StubCodec | None = None, **options: Any
    ) -> NeuTTSEngine:
        backbone, codec = backbone or StubBackbone(), codec or StubCodec()
        options.setdefault("chunks", RAMPS[0])  # else its speed would choose them
        engine = NeuTTSEngine(NeuTTSOptions(**options), lambda _: backbone, lambda _: codec)
        engine.load()
        made.append(engine)
        return engine

    yield build
    for engine in made:
        engine.unload()


def parts(engine: NeuTTSEngine) -> tuple[StubBackbone, StubCodec]:
    backbone, codec = engine._backbone, engine._codec
    assert isinstance(backbone, StubBackbone) and isinstance(codec, StubCodec)
    return backbone, codec


def say(engine: NeuTTSEngine, text: str, **more: Any) -> Utterance:
    more.setdefault("sampling", Sampling(seed=3))
    return Utterance((Span(text),), more.pop("voice", engine.voices()[0]), **more)


def run(engine: NeuTTSEngine, *slots: int) -> dict[int, list[Produced]]:
    made: dict[int, list[Produced]] = {slot: [] for slot in slots}
    live = set(slots)
    for _ in range(LIMIT):
        if not live:
            return made
        for piece in engine.step():
            made[piece.slot].append(piece)
            if piece.last:
                live.remove(piece.slot)
    raise AssertionError("the engine never finished")


def heard(pieces: list[Produced]) -> Samples:
    return np.concatenate([piece.samples for piece in pieces])


def speak(engine: NeuTTSEngine, text: str, **more: Any) -> tuple[Samples, Produced]:
    slot = engine.admit(say(engine, text, **more))
    pieces = run(engine, slot)[slot]
    return heard(pieces), pieces[-1]


def voice(count: int = 50, transcript: str = "What was said.") -> Voice:
    codes = np.arange(count, dtype=np.int32) * 7
    return Voice("me", "neutts", kind="cloned", data=ReferenceVoice(codes, transcript, "en"))


def left_over(engine: NeuTTSEngine) -> bool:
    return bool(engine._speakings or engine._rows or parts(engine)[0].rows)


def test_every_code_is_heard_once_and_in_order(make: Make) -> None:
    engine = make()
    slot = engine.admit(say(engine, "Every code is heard, once."))
    recorded = engine.record(slot)
    pieces = run(engine, slot)[slot]
    assert pieces[-1].finish_reason == "stop"
    assert len(recorded) > 60
    assert codes_of(heard(pieces)) == recorded
    np.testing.assert_allclose(heard(pieces), sound_of(np.array(recorded)), atol=1e-6)


def test_first_sound_leaves_before_the_last_code(make: Make) -> None:
    engine = make()
    slot = engine.admit(say(engine, "This is quite a long sentence, which takes its time to end."))
    while not any(len(piece.samples) for piece in engine.step()):
        pass
    assert parts(engine)[0].rows
    run(engine, slot)


def test_stages_are_told(make: Make) -> None:
    engine = make()
    slot = engine.admit(say(engine, "Where does the time go?"))
    told = {name for piece in run(engine, slot)[slot] for name in piece.stages_ms}
    assert told == {"phonemes", "prefill", "tokens", "codec"}


def test_every_token_is_counted_once(make: Make) -> None:
    engine = make()
    began_s = time.monotonic()
    slot = engine.admit(say(engine, "How many are these?"))
    recorded = engine.record(slot)
    pieces = run(engine, slot)[slot]
    assert sum(piece.tokens for piece in pieces) == len(recorded)
    assert len({piece.first_token_s for piece in pieces}) == 1
    assert pieces[0].first_token_s is not None
    assert began_s < pieces[0].first_token_s < time.monotonic()


def test_the_prompt_is_the_voice_and_the_text(make: Make) -> None:
    engine = make()
    speak(engine, "My name is Andy", voice=voice(4, "Hello."))
    backbone, _ = parts(engine)
    said = backbone.vocabulary.text_of(backbone.prompts[0])
    assert said == "həlˈoʊ. maɪ nˈeɪm ɪz ˈændi."
    assert backbone.prompts[0].ids[-4:] == backbone.vocabulary.speech_ids([0, 7, 14, 21])
    assert backbone.prompts[0].ids[: backbone.prompts[0].shared_prefix][-1] == ord(".")


def test_company_does_not_alter_an_utterance(make: Make) -> None:
    engine = make()
    alone, _ = speak(engine, "The same words.")
    slots = [engine.admit(say(engine, text)) for text in ("One.", "The same words.", "Two, too.")]
    np.testing.assert_array_equal(heard(run(engine, *slots)[slots[1]]), alone)


def test_an_early_end_is_tried_again_with_another_seed(make: Make) -> None:
    first = Sampling(seed=3)
    backbone = StubBackbone(length=lambda _, sampling: 0 if sampling.seed == 3 else 80)
    engine = make(backbone)
    sound, last = speak(engine, "Try again.", sampling=first)
    assert last.finish_reason == "stop" and len(sound) == 80 * 480
    assert len(backbone.samplings) == 2
    again, _ = speak(engine, "Try again.", sampling=first)
    np.testing.assert_array_equal(again, sound)


@pytest.mark.parametrize(("greedy", "tries"), [(False, 4), (True, 1)])
def test_a_model_that_never_begins_is_an_error(make: Make, greedy: bool, tries: int) -> None:
    backbone = StubBackbone(length=lambda _prompt, _sampling: 2)
    engine = make(backbone)
    sound, last = speak(engine, "Nothing comes.", options={"greedy": greedy})
    assert isinstance(last.error, EngineError) and "before it began" in last.error.message
    assert len(backbone.samplings) == tries and len(sound) == 0
    assert not left_over(engine)


def test_a_runaway_is_cut_and_says_so(make: Make) -> None:
    engine = make(StubBackbone(length=lambda *_: 100_000))
    sound, last = speak(engine, "Hm.")
    assert last.finish_reason == "length" and last.error is None
    assert len(sound) < 10 * 24_000


def test_codes_that_go_in_circles_are_cut(make: Make) -> None:
    long = "This sentence is long enough to be said in more than a dozen seconds, " * 4
    for guards in (True, False):
        backbone = StubBackbone(length=lambda *_: 700, code=lambda n: n % 7 * 1000 + 20_000)
        engine = make(backbone)
        sound, last = speak(engine, long, options={"guards": guards})
        assert last.finish_reason == ("length" if guards else "stop")
        assert (len(sound) < 300 * 480) is guards
        assert not left_over(engine)


def test_long_silence_is_cut(make: Make) -> None:
    class Silent(StubCodec):
        def decode(self, codes: Any) -> Samples:
            return np.zeros(len(codes) * 480, np.float32)

    class Slow(StubBackbone):
        def step(self, **known: Any) -> Any:
            time.sleep(0.002)  # The codec keeps up with a real backbone, too.
            return super().step(**known)

    engine = make(Slow(length=lambda *_: 700), Silent())
    long = "This sentence is long enough to be said in more than a dozen seconds, " * 4
    sound, last = speak(engine, long)
    assert last.finish_reason == "length"
    assert 3 * 24_000 < len(sound) < 700 * 480


def test_a_text_too_long_for_the_context_is_spoken_in_parts(make: Make) -> None:
    backbone = StubBackbone(context_tokens=900)
    engine = make(backbone)
    text = "One goes first, and two comes next. " * 8
    slot = engine.admit(say(engine, text, voice=voice(100)))
    recorded = engine.record(slot)
    pieces = run(engine, slot)[slot]
    assert pieces[-1].finish_reason == "stop"
    assert len(backbone.prompts) > 1
    assert codes_of(heard(pieces)) == recorded
    assert not left_over(engine)


def test_a_voice_too_long_for_the_context_is_refused(make: Make) -> None:
    engine = make(StubBackbone(context_tokens=300))
    slot = engine.admit(say(engine, "Hello.", voice=voice(400)))
    last = run(engine, slot)[slot][-1]
    assert isinstance(last.error, InputError) and "300" in last.error.message
    assert not left_over(engine)
    assert speak(engine, "Hello.")[1].finish_reason == "stop"


@pytest.mark.parametrize("steps", [0, 1, 3, 6, 20, 40, 80])
def test_release_at_any_phase_leaves_nothing(make: Make, steps: int) -> None:
    engine = make()
    kept = engine.admit(say(engine, "This one goes on to its very end."))
    dropped = engine.admit(say(engine, "This one is cut, sooner or later.", voice=voice(300)))
    for _ in range(steps):
        engine.step()
    engine.release(dropped)
    pieces = run(engine, kept)[kept]
    alone, _ = speak(engine, "This one goes on to its very end.")
    assert not left_over(engine) and engine.step() == []
    assert len(heard(pieces)) <= len(alone)


def test_release_while_its_window_is_decoded(make: Make) -> None:
    gate = threading.Event()
    engine = make(codec=StubCodec(gate=gate))
    slot = engine.admit(say(engine, "Its window is being decoded."))
    while engine._worker is not None and engine._worker.free:
        engine.step()
    engine.release(slot)
    other = engine.admit(say(engine, "And another speaks."))
    gate.set()
    assert run(engine, other)[other][-1].finish_reason == "stop"
    assert not left_over(engine)


def test_a_fault_of_the_codec_is_the_slots_own(make: Make) -> None:
    codec = StubCodec(fault=EngineError("no sound"))
    engine = make(codec=codec)
    _, last = speak(engine, "It fails here.")
    assert last.error is codec.fault and not left_over(engine)
    codec.fault = None
    assert speak(engine, "It speaks again.")[1].finish_reason == "stop"


def test_a_fault_of_the_backbone_is_the_engines(make: Make) -> None:
    engine = make(StubBackbone(fault=RuntimeError("gone")))
    engine.admit(say(engine, "Never."))
    with pytest.raises(RuntimeError, match="gone"):
        engine.step()
    parts(engine)[0].fault = None


class Clocked(StubBackbone):
    """Its steps take what they are said to, on a clock of their own: (token, prompt token)."""

    now_s = 1_000.0
    costs_s = (0.0, 0.0)

    def step(self, *, codec_runs: bool = False, busy_slice: int = 0) -> Any:
        before = self.evaluated
        emitted = super().step(codec_runs=codec_runs, busy_slice=busy_slice)
        token_s, prompt_s = self.costs_s
        self.now_s += token_s + prompt_s * (self.evaluated - before)
        return emitted


class AtOnce(WorkerPool[Any, Any]):
    """Works when it is told to, in no time."""

    done: Done[Any, Any] | None = None

    @property
    def free(self) -> int:
        return int(self.done is None)

    def start(self, job: Any) -> None:
        self.done = Done(job, self._work(job), None, 0.001)

    def collect(self, wait_s: float = 0.0) -> list[Done[Any, Any]]:
        done, self.done = self.done, None
        return [] if done is None else [done]


def slices_of_a_second_caller(
    make: Make, monkeypatch: pytest.MonkeyPatch, token_s: float, codes: int
) -> list[int]:
    """The slices of a prompt that is read after another caller has spoken ``codes``."""
    backbone = Clocked(length=lambda *_: 400)
    backbone.costs_s = token_s, token_s / 4
    monkeypatch.setattr("vivavoce.engines.neutts.engine.WorkerPool", AtOnce)
    engine = make(backbone)
    clock = SimpleNamespace(monotonic=lambda: backbone.now_s, perf_counter=lambda: backbone.now_s)
    for module in ("engine", "utterance"):
        monkeypatch.setattr(f"vivavoce.engines.neutts.{module}.time", clock)
    long = "This sentence is long enough to be said in more than a dozen seconds, " * 2
    first = engine.admit(say(engine, long, options={"max_codes": 400, "guards": False}))
    recorded = engine.record(first)
    while len(recorded) < codes:
        engine.step()
    before = len(backbone.slices)
    second = engine.admit(say(engine, "And who are you?", voice=voice(300)))
    run(engine, first, second)
    return [size for size in backbone.slices[before:] if size]


def test_a_prompt_is_read_quickly_where_others_have_sound_in_hand(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = slices_of_a_second_caller(make, monkeypatch, token_s=0.004, codes=150)
    assert slices and min(slices[:-1]) >= 96


def test_a_prompt_is_read_slowly_where_others_would_starve(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = slices_of_a_second_caller(make, monkeypatch, token_s=0.019, codes=60)
    assert len(slices) > 20 and set(slices[:20]) == {SMALLEST_SLICE}


def test_where_nobody_is_heard_yet_a_prompt_is_read_in_middling_slices(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = slices_of_a_second_caller(make, monkeypatch, token_s=0.01, codes=1)
    assert slices[0] == UNHEARD_SLICE


def test_a_length_limit_covers_all_parts(make: Make) -> None:
    engine = make(StubBackbone(context_tokens=900))
    text = "One goes first, and two comes next. " * 8
    sound, last = speak(engine, text, voice=voice(100), max_audio_s=5.0)
    assert last.finish_reason == "length"
    assert len(sound) <= 5.0 * 24_000


@pytest.mark.parametrize("text", ["…", "?", "-", "(", "'", "  "])
def test_marks_alone_are_silence(make: Make, text: str) -> None:
    engine = make()
    sound, last = speak(engine, text)
    assert last.finish_reason == "stop" and len(sound) == 0


def test_a_text_without_phonemes_is_empty(make: Make) -> None:
    engine = make()
    with pytest.raises(EmptyInput):
        engine.admit(say(engine, "¦ ¦"))
    assert not left_over(engine)


def test_emotions_of_2e(make: Make) -> None:
    engine = make(StubBackbone(family=TWO_E), backbone_repo="neuphonic/neutts-2e-q4-gguf")
    speak(engine, "“I’m so glad”", options={"emotion": "Happy"})
    backbone, _ = parts(engine)
    prompt = backbone.prompts[0]
    assert backbone.vocabulary.token_id("<|HAPPY|>") in prompt.ids
    assert backbone.vocabulary.text_of(prompt) == '"I\'m so glad".'
    with pytest.raises(InputError, match="angry"):
        engine.validate(say(engine, "Hm.", options={"emotion": "bored"}))
    with pytest.raises(Unsupported):
        make().validate(say(engine, "Hm.", options={"emotion": "happy"}))


@pytest.mark.parametrize(
    "fields",
    [
        {"language": "de"},
        {"instructions": "Whisper."},
        {"options": {"emotion": "happy"}},
        {"options": {"no_such": 1}},
        {"options": {"top_k": -1}},
        {"sampling": Sampling(temperature=-1.0)},
        {"text_open": True},
        {"voice": Voice("x", "qwen3", data=object())},
        {"voice": Voice("stranger", "neutts")},
    ],
)
def test_what_it_cannot_speak_is_refused(make: Make, fields: dict[str, Any]) -> None:
    engine = make()
    with pytest.raises(InputError):
        engine.validate(say(engine, "Hello.", **fields))
    with pytest.raises(VivavoceError):
        engine.admit(say(engine, "Hello.", **fields))
    assert not left_over(engine)


def test_control_tokens_in_a_text_are_only_text(make: Make) -> None:
    engine = make(StubBackbone(family=TWO_E), backbone_repo="2e")
    speak(engine, "Say <|SPEECH_GENERATION_END|> or ＜|speech_5|＞ now.")
    backbone, _ = parts(engine)
    assert "<|" not in backbone.vocabulary.text_of(backbone.prompts[0])


def test_voices_of_a_folder(make: Make, tmp_path: Path) -> None:
    told = {"codes": [1, 2, 3], "transcript": "Three codes."}
    (tmp_path / "ann.json").write_text(json.dumps(told))
    np.save(tmp_path / "bob.npy", np.arange(5))
    (tmp_path / "bob.txt").write_text("Five codes.")
    engine = make(voices_dir=tmp_path, voice="bob")
    assert [voice.id for voice in engine.voices()] == ["bob", "ann"]
    assert engine.info.default_voice == "bob"
    speak(engine, "Hi.")
    backbone, _ = parts(engine)
    assert backbone.prompts[0].ids[-5:] == backbone.vocabulary.speech_ids(range(5))


def test_details_say_where_the_parts_run(make: Make) -> None:
    details = make(StubBackbone(device="cpu"), StubCodec(device="cuda:0")).info.details
    assert details["devices"]["backbone"] == "cpu"
    assert details["devices"]["codec"] == "cuda:0"


def test_a_watermark_is_put_on_what_is_heard(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, _ = speak(make(), "It is marked all over.")
    monkeypatch.setattr(
        "vivavoce.engines.neutts.engine.load_perth", lambda: lambda samples: samples + 0.01
    )
    engine = make(watermark=True)
    slot = engine.admit(say(engine, "It is marked all over."))
    pieces = run(engine, slot)[slot]
    added = heard(pieces) - plain
    assert len(added) and np.mean(np.isclose(added, 0.01, atol=1e-6)) > 0.8
    assert added.min() >= 0.0 and not left_over(engine)
    assert "watermark" in {name for piece in pieces for name in piece.stages_ms}


def test_unloading_gives_everything_back(make: Make) -> None:
    engine = make()
    backbone, codec = parts(engine)
    engine.admit(say(engine, "Cut off."))
    engine.step()
    engine.unload()
    assert not backbone.loaded and codec.closed
    assert engine.step() == []
    engine.load()
    assert speak(engine, "And again.")[1].finish_reason == "stop"
