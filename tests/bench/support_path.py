"A script here that needs a module of tests/support imports this first: Python finds those then."

import sys
from pathlib import Path

SUPPORT = str(Path(__file__).resolve().parents[1] / "support")
sys.path.insert(0, SUPPORT)
