"""Style: ruff over code, notebooks and tests; then the chapters' measures (tools/chapters.py)."""

import subprocess
import sys
from pathlib import Path

import chapters

ROOT = Path(__file__).resolve().parent.parent
LINTED = ["nbs", "tools", "tests", "qwen_npu_tut/programs"]


def main() -> int:  # exit code
    "Both are run, whatever the first says."
    ruff = [Path(sys.executable).with_name("ruff"), "check", *LINTED]
    linted = subprocess.run(ruff, cwd=ROOT).returncode
    return linted or chapters.main()


if __name__ == "__main__":
    sys.exit(main())
