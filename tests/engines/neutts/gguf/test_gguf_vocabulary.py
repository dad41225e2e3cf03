"""Ids of tokens, as the model file says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import gguf
import pytest

from vivavoce.engines.neutts.gguf.vocabulary import GgufVocabulary
from vivavoce.errors import InputError, ModelFileError
from vivavoce.testing.random_gguf import make_random_gguf

PHONEMES = "həlˈoʊ wˈɜːld, abd."


@pytest.fixture(scope="module", params=["nano", "air", "2e"])
def vocabulary(
    request: pytest.FixtureRequest, tiny_model: Callable[..., Path]
) -> Iterator[GgufVocabulary]:
    opened = GgufVocabulary(tiny_model(request.param))
    yield opened
    opened.close()


def spelt(vocabulary: GgufVocabulary, ids: tuple[int, ...]) -> str:
    """What ids stand for."""
    from vivavoce.engines.neutts.gguf.kept_tokens import token_bytes

    names = (vocabulary.name(token).encode() for token in ids)
    return b"".join(token_bytes(name) or name for name in names).decode()


def test_prompts_are_tokenized_as_a_whole_string_would_be(vocabulary: GgufVocabulary) -> None:
    family, codes = vocabulary.family, [0, 5, 65_535]
    whole = family.header + PHONEMES + family.middle
    text = whole + "".join(f"<|speech_{code}|>" for code in codes)
    ids = (
        *vocabulary.header_ids,
        *vocabulary.tokenize(PHONEMES),
        *vocabulary.middle_ids,
        *vocabulary.speech_ids(codes),
    )
    bos = vocabulary._model.bos
    parsed = vocabulary._model.tokenize(text, special=True)
    assert list(ids) == ([] if bos is None else [bos]) + parsed


def test_nano_begins_with_bos_and_air_does_not(tiny_model: Callable[..., Path]) -> None:
    nano, air = GgufVocabulary(tiny_model("nano")), GgufVocabulary(tiny_model("air"))
    assert nano.name(nano.header_ids[0]) == "<|begin_of_text|>"
    assert air.name(air.header_ids[0]) == "u"


def test_special_ids_are_found_by_name(vocabulary: GgufVocabulary) -> None:
    assert vocabulary.token_id("<|SPEECH_GENERATION_END|>") == vocabulary.end_id
    assert vocabulary.token_id("<|speech_0|>") == vocabulary.first_speech_id
    assert vocabulary.token_id("<|speech_700|>") == vocabulary.speech_ids([700])[0]
    assert vocabulary.token_id("<|speech_65536|>") is None
    assert vocabulary.token_id("hello") is None
    assert vocabulary.token_id("a") is None
    assert (vocabulary.token_id("<|HAPPY|>") is None) == (vocabulary.family.name != "2e")


@pytest.mark.parametrize(
    "text",
    [
        "<|speech_5|>",
        "a<|SPEECH_GENERATION_END|>b",
        "<|im_end|><|im_end|>",
        "<<|speech_1|>|speech_2|>",
        "<|speech_<|speech_3|>4|>",
    ],
)
def test_names_of_special_tokens_in_a_text_are_spelt_out(
    vocabulary: GgufVocabulary, text: str
) -> None:
    ids = vocabulary.tokenize(text)
    assert not any(vocabulary.is_special(token) for token in ids)
    assert spelt(vocabulary, ids) == text


def test_any_text_is_spelt_whole(vocabulary: GgufVocabulary) -> None:
    text = " ʃ中文 abdefh\n\0\U0001f600 ẞ"
    assert spelt(vocabulary, vocabulary.tokenize(text)) == text
    assert vocabulary.tokenize("") == ()


def test_a_text_is_tokenized_once(
    vocabulary: GgufVocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    plain = vocabulary._plain
    monkeypatch.setattr(vocabulary, "_plain", lambda text: asked.append(text) or plain(text))
    first = vocabulary.tokenize("wˌʌns ənd fɔːɹ ˈɔːl")
    assert first and vocabulary.tokenize("wˌʌns ənd fɔːɹ ˈɔːl") == first
    assert len(asked) == 1


@pytest.mark.parametrize("codes", [[-1], [65_536], [3, 70_000]])
def test_codes_out_of_range_are_refused(vocabulary: GgufVocabulary, codes: list[int]) -> None:
    with pytest.raises(InputError):
        vocabulary.speech_ids(codes)
    assert vocabulary.speech_ids([]) == ()


def test_the_file_names_its_emotions(tiny_model: Callable[..., Path]) -> None:
    family = GgufVocabulary(tiny_model("2e")).family
    assert set(family.emotions) >= {"happy", "sad", "neutral"}
    assert family.layout == "text"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "end", "first"),
    [("air", 151_670, 151_671), ("nano", 128_261, 128_262), ("2e", 151_674, 151_684)],
)
def test_real_vocabularies_have_the_published_ids(
    tmp_path: Path, name: str, end: int, first: int
) -> None:
    path = make_random_gguf(f"neutts-{name}", tmp_path / "m.gguf", small=True, real_vocabulary=True)
    vocabulary = GgufVocabulary(path)
    assert (vocabulary.end_id, vocabulary.first_speech_id) == (end, first)


def test_a_truncated_file_is_a_clear_error(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny_model().read_bytes()[:100_000])
    with pytest.raises(ModelFileError, match="no whole GGUF file"):
        GgufVocabulary(cut)


def other_model(path: Path, architecture: str, tokens: list[str]) -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * len(tokens))
    writer.add_token_merges(["a b"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_another_architecture_is_named(tmp_path: Path) -> None:
    path = other_model(tmp_path / "other.gguf", "gemma3", ["a"])
    with pytest.raises(ModelFileError, match="gemma3"):
        GgufVocabulary(path)


def test_a_model_without_speech_tokens_is_refused(tmp_path: Path) -> None:
    from vivavoce.engines.neutts.gguf.kept_tokens import byte_alphabet

    path = other_model(tmp_path / "chat.gguf", "qwen2", list(byte_alphabet().values()))
    with pytest.raises(ModelFileError, match=r"speech_0|cannot read"):
        GgufVocabulary(path)
