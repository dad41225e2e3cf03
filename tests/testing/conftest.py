"""The doubles' own tests use what the tests of engines and sound make of them."""

from __future__ import annotations

from tests.audio.conftest import piper_speech
from tests.engines.neutts.torch_lm.conftest import tiny_lm
from tests.engines.qwen3.conftest import qwen3_data, tiny_checkpoint, tokenizer_files

__all__ = ["piper_speech", "qwen3_data", "tiny_checkpoint", "tiny_lm", "tokenizer_files"]
