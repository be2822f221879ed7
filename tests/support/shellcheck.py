"The linter for shell scripts, where there is one."

import os
import shutil
import sys
from pathlib import Path

import pytest

SHELLCHECK = shutil.which(
    "shellcheck", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
)
needs_shellcheck = pytest.mark.skipif(
    not SHELLCHECK, reason="shellcheck is not here: the dev extra brings it on x86_64 Linux only"
)
