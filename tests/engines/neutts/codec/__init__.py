"""NeuCodec on tiny random weights."""

import sys
from pathlib import Path

# Helpers beside the tests are imported as engines.neutts.codec.…
TESTS = str(Path(__file__).parents[3])
if TESTS not in sys.path:
    sys.path.append(TESTS)
