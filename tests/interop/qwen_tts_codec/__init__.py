"""The codec and the speaker encoder against the published qwen-tts package."""

import sys
from pathlib import Path

# The small codec of the engine's own tests serves here too.
TESTS = str(Path(__file__).parents[2])
if TESTS not in sys.path:
    sys.path.append(TESTS)
