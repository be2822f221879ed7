"""Say 0 where a file holds a text and nothing else.

python same_text.py FILE TEXT
"""

import pathlib
import sys

file, text = pathlib.Path(sys.argv[1]), sys.argv[2]
sys.exit(not file.is_file() or file.read_text(encoding="utf-8", errors="replace") != text)
