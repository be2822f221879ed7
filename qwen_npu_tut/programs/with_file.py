"""Write a text into a file, then become the command that reads it.

python with_file.py FILE TEXT COMMAND...
"""

import os
import pathlib
import sys

file, text, *command = sys.argv[1:]
pathlib.Path(file).write_text(text, encoding="utf-8")
os.execv(command[0], command)
