"""Run a command; where it succeeds, keep a text in a file.

python keep.py FILE TEXT COMMAND...
"""

import pathlib
import subprocess
import sys

file, text, *command = sys.argv[1:]
code = subprocess.run(command).returncode
if code == 0:
    pathlib.Path(file).write_text(text, encoding="utf-8")
sys.exit(code)
