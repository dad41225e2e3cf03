"""PyTorch backbones of NeuTTS on tiny random weights with the published topology."""

import sys
from pathlib import Path

# Helpers beside the tests are imported as engines.neutts.torch_lm.…
TESTS = str(Path(__file__).parents[3])
if TESTS not in sys.path:
    sys.path.append(TESTS)
