"""Qwen3-TTS on tiny random weights with the published topology."""

import sys
from pathlib import Path

# Helpers beside the tests are imported as engines.qwen3.…
TESTS = str(Path(__file__).parents[2])
if TESTS not in sys.path:
    sys.path.append(TESTS)
