"""A sentence of the programs beside this file, in the reader's language: a row of said.json.

said = runpy.run_path(".../said.py")["said"]      as each of them takes it: they are no package

The language is chosen as qwen-npu chooses it; it is English where Chinese cannot be written.
"""

import json
import os
import sys
from pathlib import Path

ROWS = json.loads(Path(__file__).with_name("said.json").read_text(encoding="utf-8"))


def language():
    names = ("QWEN_NPU_LANG", "LC_ALL", "LC_MESSAGES", "LANG")
    named = next(filter(None, map(os.environ.get, names)), "")
    readable = (sys.stdout.encoding or "").lower().startswith("utf")
    return "zh" if readable and named.lower().startswith(("zh", "chinese")) else "en"


def said(row, **values):
    "A row with its values; KeyError where there is none, or a value lacks."
    return ROWS[row][language()].format(**values)
