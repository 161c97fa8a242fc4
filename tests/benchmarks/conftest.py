"""The benchmarks are no part of the installed package: the repository's root makes them importable."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
