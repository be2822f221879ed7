"""A sentence of the programs beside this file, in the reader's language: a row of said.json.

said = runpy.run_path(".../said.py")["said"]      as each of them takes it: they are no package

The language is chosen as qwen-npu chooses it; it is English where Chinese cannot be written.
"""

import json
import os
import sys
from pathlib import Path

ROWS = json.loads(Path(__file__).with_name("said.json").read_text(encoding="utf-8"))


def said(row, **values):
    "A row with its values; KeyError where there is none, or a value lacks."
    english, chinese = (ROWS[row][language].format(**values) for language in ("en", "zh"))
    names = ("QWEN_NPU_LANG", "LC_ALL", "LC_MESSAGES", "LANG")
    named = next(filter(None, map(os.environ.get, names)), "").lower()
    try:
        chinese.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return english
    return chinese if named.startswith(("zh", "chinese")) else english
