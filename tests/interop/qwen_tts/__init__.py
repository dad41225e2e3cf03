"""Against the published qwen-tts package, run by an interpreter of its own."""

import sys
from pathlib import Path

# The tiny models of the engine's own tests serve here too.
TESTS = str(Path(__file__).parents[2])
if TESTS not in sys.path:
    sys.path.append(TESTS)
