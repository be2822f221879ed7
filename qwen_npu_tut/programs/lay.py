"""Write a text into a file, so that a reader sees the whole of it or nothing.

python lay.py FILE TEXT [MODE]      MODE in octal, such as 755
"""

import os
import pathlib
import sys

file, text, mode = pathlib.Path(sys.argv[1]), sys.argv[2], (sys.argv[3:] or ["644"])[0]
file.parent.mkdir(parents=True, exist_ok=True)
part = file.with_name(file.name + ".part")
part.write_text(text, encoding="utf-8")
part.chmod(int(mode, 8))
os.replace(part, file)
