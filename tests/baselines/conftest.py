"""The benchmarks are no package: what stands beside them is imported as it is from there."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))  # last, for its names are common ones
