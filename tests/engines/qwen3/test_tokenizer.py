from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.engines.qwen3.tokenizer import IncrementalTokenizer, Piece, TextTokenizer
from vivavoce.errors import ModelFileError

DATA = Path(__file__).parents[2] / "data" / "qwen3"


def _probes() -> ModuleType:
    spec = importlib.util.spec_from_file_location("probes", Path(__file__).with_name("probes.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PROBES: tuple[str, ...] = _probes().PROBES
RECORDED: dict[str, Any] = json.loads((DATA / "token_ids.json").read_text("utf-8"))

OFFICIAL = """
import json, sys
from transformers import Qwen2TokenizerFast
official = Qwen2TokenizerFast.from_pretrained(sys.argv[1])
texts = json.load(sys.stdin)
json.dump([official.encode(text, split_special_tokens=True) for text in texts], sys.stdout)
"""


@pytest.fixture(scope="session")
def tokenizer() -> TextTokenizer:
    return TextTokenizer.load(DATA / "checkpoint_files")


@pytest.mark.parametrize(
    "recorded", RECORDED["probes"], ids=lambda probe: ascii(probe["text"][:12])
)
def test_equals_the_published_tokenizer(tokenizer: TextTokenizer, recorded: dict[str, Any]) -> None:
    """The ids were recorded from Qwen2TokenizerFast of transformers 4.57.3."""
    assert tokenizer.encode(recorded["text"]) == recorded["ids"]


def test_every_probe_is_recorded() -> None:
    assert [probe["text"] for probe in RECORDED["probes"]] == [text.strip() for text in PROBES]


def test_equals_the_published_tokenizer_beside_it(tokenizer: TextTokenizer) -> None:
    interpreter = os.environ.get("QWEN_TTS_PYTHON")
    if not interpreter:
        pytest.skip("QWEN_TTS_PYTHON names no interpreter that has transformers")
    texts = [first.strip() + middle + second.strip() for first, second in pairwise(PROBES)
             for middle in ("", " ", "\n")]  # fmt: skip
    ran = subprocess.run(
        [interpreter, "-c", OFFICIAL, str(DATA / "checkpoint_files")],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    for text, ids in zip(texts, json.loads(ran.stdout), strict=True):
        assert tokenizer.encode(text) == ids, text


def test_prompt_pieces(tokenizer: TextTokenizer) -> None:
    assert tokenizer.role() == RECORDED["role"]
    said = RECORDED["instruction"]
    assert tokenizer.instruction(said["text"]) == said["ids"]


@pytest.mark.parametrize("name", ["<|im_end|>", "<tts_text_eod>", "<think>", "<|audio_pad|>"])
def test_markers_in_a_text_stay_text(tokenizer: TextTokenizer, name: str) -> None:
    first_marker = 151_643
    for ids in (tokenizer.encode(f"So {name} ends."), tokenizer.instruction(name)[1:-2]):
        assert all(id_ < first_marker for id_ in ids)
        assert name in tokenizer.backend.decode(ids)


def test_nothing_to_say(tokenizer: TextTokenizer) -> None:
    assert tokenizer.encode(" \n\t") == []
    pieces = IncrementalTokenizer(tokenizer)
    assert [*pieces.feed(" "), *pieces.feed("\n"), *pieces.close()] == []


@pytest.mark.parametrize("file", ["vocab.json", "merges.txt", "tokenizer_config.json"])
@pytest.mark.parametrize("damage", ["absent", "cut", "another kind"])
def test_bad_files_are_named(tokenizer_files: Path, tmp_path: Path, file: str, damage: str) -> None:
    folder = shutil.copytree(tokenizer_files, tmp_path / "files")
    broken = folder / file
    match damage:
        case "absent":
            broken.unlink()
        case "cut":
            broken.write_bytes(broken.read_bytes()[:-300])
        case _:
            broken.write_bytes(b"\x89PNG\xff")
    with pytest.raises(ModelFileError, match=file):
        TextTokenizer.load(folder)


def test_merges_of_another_vocabulary(tokenizer_files: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tokenizer_files, tmp_path / "files")
    vocab = json.loads((folder / "vocab.json").read_text("utf-8"))
    del vocab["Hello"]
    (folder / "vocab.json").write_text(json.dumps(vocab), "utf-8")
    with pytest.raises(ModelFileError, match="do not belong together"):
        TextTokenizer.load(folder)


def test_white_space_of_several_kinds_between_words(tokenizer: TextTokenizer) -> None:
    """A run of it is cut by what follows, so what is settled must not be split again alone."""
    text = "ß \x85\u0301œ \u2000\u0308x"
    assert _fed(tokenizer, list(text)) == tokenizer.encode(text)


def _fed(tokenizer: TextTokenizer, parts: list[str]) -> list[int]:
    pieces = IncrementalTokenizer(tokenizer)
    ids = [id_ for part in parts for id_ in pieces.feed(part)]
    return [*ids, *pieces.close()]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("text", PROBES, ids=lambda text: ascii(text[:12]))
def test_pieces_give_the_ids_of_the_whole(tokenizer: TextTokenizer, text: str, size: int) -> None:
    parts = [text[at : at + size] for at in range(0, len(text), size)]
    assert _fed(tokenizer, parts) == tokenizer.encode(text)


ALPHABETS = st.one_of(
    st.sampled_from("abcresvtlmRE's 'ſ'’ \n\r\t.,!?0123"),
    st.sampled_from("\u0301\u0308\u0323\u0338\u3099\u309a\u0345\u093c\u09be\u09c7\u0cd5\u0cbf\u0cc6"),
    st.sampled_from("かはがぱカ日本語今天很好的大学是免责声明，。"),
    st.sampled_from("\u1100\u1161\u11a8\u1112\u11ab가각한"),
    st.sampled_from("éäöüßñçœ<=>|_"),
    st.sampled_from("👍🏽\u200d👨🇩🇪\ufe0f\u200b\u2000\u2028\x1c\x85\xa0"),
    st.sampled_from(["a" * 300, "!" * 400, " " * 270]),
    st.sampled_from(PROBES),
    st.characters(exclude_categories=["Cs"]),
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(st.lists(ALPHABETS, max_size=6).map("".join), max_size=12))
def test_any_splitting_gives_the_ids_of_the_whole(parts: list[str]) -> None:
    tokenizer = _shared()
    assert _fed(tokenizer, parts) == tokenizer.encode("".join(parts))


_loaded: list[TextTokenizer] = []


def _shared() -> TextTokenizer:
    """One tokenizer for all examples."""
    if not _loaded:
        _loaded.append(TextTokenizer.load(DATA / "checkpoint_files"))
    return _loaded[0]


def test_a_word_is_settled_by_what_follows(tokenizer: TextTokenizer) -> None:
    pieces = IncrementalTokenizer(tokenizer)
    assert pieces.feed("Hello wor") == tokenizer.encode("Hello")
    assert pieces.feed("ld") == []
    assert pieces.held == " world"
    assert pieces.feed("!") == tokenizer.encode_exactly(" world")
    assert pieces.close() == tokenizer.encode("!")


@pytest.mark.parametrize(
    "text",
    [
        "今天天气很好我们一起去北京大学参观吧然后再回家吃饭",
        "今日は良い天気ですね明日も晴れるでしょう",
    ],
)
def test_text_without_spaces_is_not_held_to_its_end(tokenizer: TextTokenizer, text: str) -> None:
    pieces = IncrementalTokenizer(tokenizer)
    longest = 0
    for character in text:
        pieces.feed(character)
        longest = max(longest, len(pieces.held))
    assert longest <= 8


def test_splitting_keeps_up_with_long_runs(tokenizer: TextTokenizer) -> None:
    """A run that is never settled (one letter over and over) still ends."""
    text = "哈" * 120
    assert _fed(tokenizer, list(text)) == tokenizer.encode(text)


@pytest.mark.parametrize("run", ["a", "!", " ", "哈", "e\u0301"])
def test_a_word_without_end_is_not_looked_at_with_every_letter(
    tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch, run: str
) -> None:
    looked = []
    real = TextTokenizer.split

    def counted(self: TextTokenizer, text: str) -> list[Piece]:
        looked.append(len(text))
        return real(self, text)

    monkeypatch.setattr(TextTokenizer, "split", counted)
    text = "So " + run * 4_000 + " ends."
    assert _fed(tokenizer, list(text)) == tokenizer.encode(text)
    assert sum(looked) < 100 * len(text)


Make = Callable[[str], Path]


def test_a_checkpoint_brings_its_tokenizer(tiny_checkpoint: Make, tokenizer: TextTokenizer) -> None:
    own = TextTokenizer.load(tiny_checkpoint("0.6B-CustomVoice"))
    assert own.encode(PROBES[3]) == tokenizer.encode(PROBES[3])
