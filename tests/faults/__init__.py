"""What callers and networks do to a server, and what it must look like afterwards."""

import sys
from pathlib import Path

# The live server that the quality tests use serves here too.
TESTS = str(Path(__file__).parents[1])
if TESTS not in sys.path:
    sys.path.append(TESTS)
