"""The benchmarks are scripts, not a package: their modules are found behind all others."""

from __future__ import annotations

import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "bench"

# Last, since one of them is called `profile`.
sys.path.append(str(BENCH))
