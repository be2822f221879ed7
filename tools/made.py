"""What a tool makes from data is committed, and held to what would be made now."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def settle(
    files: Mapping[Path, str],  # each file that a tool makes, and its text
    tool: str,  # as one types it: tools/pages.py
    check: bool,  # write nothing
) -> int:  # exit code
    "Write what differs; or write nothing, and say what is out of date."
    stale = {
        path: text
        for path, text in files.items()
        if not path.exists() or path.read_text(encoding="utf8", errors="replace") != text
    }
    for path, text in stale.items():
        if check:
            name = os.path.relpath(path, ROOT)
            print(f"{name} is out of date: python {tool}", file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf8")
    return 1 if check and stale else 0


def run(
    doc: str,  # the tool's own docstring
    tool: str,
    files: Callable[[], Mapping[Path, str]],
) -> int:  # exit code
    "A tool whose one option is --check."
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail where one is old")
    check = parser.parse_args().check
    return settle(files(), tool, check)
