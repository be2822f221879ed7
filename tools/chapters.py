"""Measures the chapters: how soon a reader sees what each is about, and how much of it is shown.

    python tools/chapters.py

Prints a table, and ends with 1 where a chapter misses a bound. Minutes of reading: prose at 200
words a minute, exported code at 750 characters a minute.
"""

import json
import re
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT / "nbs"
# A chapter's subject: the call that it is about, and the command that does the same.
SUBJECTS = {
    "01_check": (r"\bcheck\(", "check"),
    "02_install": (r"\brun_plan\(", "install"),
    "03_kernels": (r"\brun_plan\(", "install"),
    "04_download": (r"\b(download|fetch)\(", "download"),
    "05_serve": (r"\bstart\(", "serve"),
    "06_call": (r"\bOpenAI\(", "chat"),
}
EXPORTED, SHOWN, LINES, SOON = 35, 58, 20, 6  # per cent, per cent, lines a cell, code cells
QUICK_START, FIRST_REPLY = 10, 45  # minutes: 00 alone, and 01 up to the first reply in 06
FIRST_REPLY_CELL = r"\.chat\.completions\.create\("


@dataclass(frozen=True)
class Chapter:
    "A notebook, as its reader meets it."

    name: str
    cells: list[dict]

    def code(self) -> list[tuple[str, dict]]:
        "The code cells that are not empty, each with its source."
        sources = [(source_of(each), each) for each in self.cells if each["cell_type"] == "code"]
        return [each for each in sources if each[0].strip()]

    @cached_property
    def exported(self) -> float:
        "Per cent of the lines of code that are exported."
        lines = [(written(source), exports(source)) for source, _ in self.code()]
        return 100 * sum(n for n, ours in lines if ours) / max(1, sum(n for n, _ in lines))

    @cached_property
    def shown(self) -> float:
        "Per cent of the code cells that have an output."
        return 100 * sum(bool(cell["outputs"]) for _, cell in self.code()) / len(self.code())

    @cached_property
    def longest(self) -> int:
        "Lines of the longest code cell."
        return max(len(source.splitlines()) for source, _ in self.code())

    @cached_property
    def subject(self) -> int:
        "The code cell, counted from 1, that calls what the chapter is about; 0 where none does."
        wanted = SUBJECTS[self.name][0]
        for number, (source, _) in enumerate(self.code(), 1):
            if not exports(source) and re.search(wanted, source):
                return number
        return 0

    def names_command(self) -> bool:
        "Whether the text names the command that does the same."
        wanted = f"qwen-npu {SUBJECTS[self.name][1]}"
        return any(wanted in source_of(each) for each in self.cells)

    def minutes(self, until: str = "") -> float:
        "Minutes of reading, up to the cell in which a pattern is found, the whole if it is empty."
        words = letters = 0
        for each in self.cells:
            source = source_of(each)
            if each["cell_type"] == "markdown":
                words += len(re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", source).split())
            elif exports(source):
                letters += len(source)
            elif until and re.search(until, source):
                break
        return words / 200 + letters / 750

    def faults(self) -> list[str]:
        "What misses a bound."
        checks = {
            f"{self.exported:.0f} % of its code lines are exported": self.exported <= EXPORTED,
            f"{self.shown:.0f} % of its code cells have an output": self.shown >= SHOWN,
            f"a cell has {self.longest} lines": self.longest <= LINES,
            f"its subject is called in code cell {self.subject}": 0 < self.subject <= SOON,
            f"qwen-npu {SUBJECTS[self.name][1]} is not named": self.names_command(),
        }
        return [f"{self.name}: {what}" for what, good in checks.items() if not good]


def source_of(cell: dict) -> str:
    "A cell's text."
    return "".join(cell["source"])


def exports(source: str) -> bool:
    "Whether a code cell goes into the package."
    return bool(re.match(r"#\|\s*exports?\b", source))


def written(source: str) -> int:
    "Lines that are neither blank nor a directive."
    return sum(bool(line.strip()) and not line.startswith("#|") for line in source.splitlines())


def chapter(name: str) -> Chapter:
    "A chapter by its file's name."
    text = (NBS / f"{name}.ipynb").read_text(encoding="utf8")
    return Chapter(name, json.loads(text)["cells"])


def to_first_reply() -> float:
    "Minutes from the beginning of 01 to the first reply in 06."
    *before, last = SUBJECTS
    whole = sum(chapter(name).minutes() for name in before)
    return whole + chapter(last).minutes(FIRST_REPLY_CELL)


def main() -> int:  # exit code
    "Print the table and what misses a bound."
    head = ("chapter", "exported", "shown", "longest", "subject", "minutes")
    print("{:12} {:>9} {:>7} {:>8} {:>8} {:>8}".format(*head))
    wrong = []
    for name in SUBJECTS:
        one = chapter(name)
        wrong += one.faults()
        print(
            f"{name:12} {one.exported:7.0f} % {one.shown:5.0f} % {one.longest:8}"
            f" {one.subject:8} {one.minutes():8.1f}"
        )
    first = to_first_reply()
    print(f"01 to the first reply in 06: {first:.1f} minutes of reading")
    if first > FIRST_REPLY:
        wrong.append(f"01 to the first reply takes {first:.1f} minutes of reading")
    if (NBS / "00_quickstart.ipynb").exists():
        text = (NBS / "00_quickstart.ipynb").read_text(encoding="utf8")
        alone = Chapter("00_quickstart", json.loads(text)["cells"]).minutes()
        print(f"00 alone: {alone:.1f} minutes of reading")
        if alone > QUICK_START:
            wrong.append(f"00 takes {alone:.1f} minutes of reading")
    print(*wrong, sep="\n", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
