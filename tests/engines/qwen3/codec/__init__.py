"""The codec and the speaker encoder on small random weights."""

import sys
from pathlib import Path

# Helpers beside the tests are imported as engines.qwen3.codec.…
TESTS = str(Path(__file__).parents[3])
if TESTS not in sys.path:
    sys.path.append(TESTS)
