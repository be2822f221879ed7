"""Makes the Chinese edition: nbs/zh/NAME.ipynb of nbs/NAME.ipynb and the text nbs/zh/_NAME.md.

python tools/translate.py [--check] [--diff CELL] [--accept CELL]

A text has a block for each Markdown cell of the English page. Its key names the cell, and a digest
of the English words that it was written for. Code and outputs are those of the English page.
"""

import argparse
import difflib
import hashlib
import json
import posixpath
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from made import settle

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "nbs"
CHINESE = BOOK / "zh"
KEY = re.compile(r"<!-- (cell|gone) (\S+) ([0-9a-f]{8}) -->")
LIKE_KEY = re.compile(r"\s*[<＜][!！]|.*\b[0-9a-f]{8} *-->")  # a text has no other comments
FENCE = re.compile(r"(^```.*?^```$)", re.M | re.S)
TERMINAL = re.compile(r'^<div class="terminal">$.*?^</div>$', re.M | re.S)
CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.S)
LINK = re.compile(r"(\]\(|(?:href|src)=\")([^)\s\"]+)")
HEADING = re.compile(r"^(#{2,6}) +(.+?)$", re.M)
NAME = re.compile(r"(?<![\w./-])[A-Za-z]+\d[\w-]*|(?<![\w./-])\d[\d.]*rc\d+")  # A2, 0.5.3rc0
NUMBER = re.compile(r"(?<![\w.])(\d[\d,]*(?:\.\d+)*)(?![\w]*_) ?((?:[GMKT]i?B|%|ms)(?!\w)|)")
ENGLISH_LINE = re.compile(r"\[中文\]\(zh/\S+\)")
EXPORTS = re.compile(r"^#\| *(?:default_exp|export[si]?)\b.*\n?", re.M)
CHANGED = "*英文原文已更新，本段译文待修订。*"
FRONT = """\
---
# Made by tools/translate.py from nbs/{name}.ipynb and nbs/zh/_{name}.md: edit those, not this page.
lang: zh
skip_exec: true
---"""


class Fault(Exception):
    "A text that cannot be read: its place, and what is wrong there."


@dataclass
class Block:
    "One cell's Chinese, and which English it was written for."

    cell: str
    digest: str
    text: str = ""
    gone: bool = False  # its cell is no longer there; kept until somebody takes it out

    def __str__(self):
        kind = "gone" if self.gone else "cell"
        return f"<!-- {kind} {self.cell} {self.digest} -->\n{self.text}".rstrip() + "\n"


def digest(english: str) -> str:
    "Eight digits for the words of an English cell; blanks at line ends do not count."
    words = "\n".join(line.rstrip() for line in english.strip().splitlines())
    return hashlib.sha256(words.encode()).hexdigest()[:8]


def read_blocks(text: str, name: str) -> list[Block]:
    "The blocks of a text. Fault: a key that is broken or twice there, or words before the first."
    blocks: list[Block] = []
    for number, line in enumerate(text.splitlines(), 1):
        key = KEY.fullmatch(line.strip())
        if not key and (LIKE_KEY.match(line) or (line.strip() and not blocks)):
            raise Fault(f"{name}:{number}: {line.strip()!r} is no key: <!-- cell ID 8-DIGITS -->")
        if key and any(each.cell == key[2] for each in blocks):
            raise Fault(f"{name}:{number}: the cell {key[2]} has a block already")
        if key:
            blocks.append(Block(key[2], key[3], gone=key[1] == "gone"))
        elif blocks:
            blocks[-1].text += f"{line.rstrip()}\n"
    for each in blocks:
        each.text = each.text.strip()
    return blocks


# ---- does a block say what its cell says ----


def spans(text: str) -> list[str]:
    "Code within the lines of a text."
    return [found[1].strip() for found in CODE.findall(FENCE.sub("", text))]


def typed(text: str) -> list[str]:
    "The lines of code between a text's fences, without comments; what a terminal shows is none."
    lines = "\n".join(FENCE.findall(TERMINAL.sub("", text))).splitlines()
    return [said for line in lines if (said := re.sub(r"(^|\s)# .*", "", line).strip())]


def outside(text: str, change: Callable[[str], str]) -> str:
    "A text that is changed, but for its fences."
    parts = FENCE.split(text)
    return "".join(part if n % 2 else change(part) for n, part in enumerate(parts))


def prose(text: str) -> str:
    "The words of a text, without its code and addresses."
    words = LINK.sub("](", CODE.sub("", FENCE.sub("", text)))
    return re.sub(r"https?://\S+", "", words)


def addresses(text: str) -> list[str]:
    "Where a text's links and pictures lead."
    bare = re.findall(r"(?<![\w(\"`])https?://[\w./#?=&%~-]*[\w/]", CODE.sub("", text))
    return [each[1] for each in LINK.findall(text)] + bare


def stands(piece: str, text: str) -> bool:
    "Whether a text has a piece of code or a name, not only as a part of a longer one."
    before = r"(?<![A-Za-z0-9_-])" if piece[:1].isalnum() else ""
    after = r"(?![A-Za-z0-9_-])" if piece[-1:].isalnum() else ""
    return bool(re.search(before + re.escape(piece) + after, text))


def forms(number: str) -> set[str]:
    "How a number may stand in Chinese: 16,384 as itself or 16384, 20,000 also as 2 万."
    plain = number.replace(",", "")
    found = {number, plain}
    if plain.isdigit():
        for size, sign in ((10**4, "万"), (10**8, "亿")):
            part = f"{int(plain) / size:.12g}{sign}"
            found |= {part, part.replace(sign, f" {sign}")} if int(plain) >= size else set()
    return found


@cache
def terms() -> list[tuple[re.Pattern, tuple[str, ...]]]:
    "Each term of the glossary that has a word of its own in Chinese, and the words that it may be."
    try:
        table = tomllib.loads((ROOT / "tools" / "glossary.toml").read_text(encoding="utf8"))
        names = [(each["name"]["en"], each["name"]["zh"], each) for each in table["term"]]
    except (OSError, ValueError, KeyError) as error:
        raise Fault(f"tools/glossary.toml: a term without en or zh, or no TOML: {error}") from error
    found = []
    for english, chinese, term in names:
        allowed = tuple(filter(None, re.split("[（）、，/ ]*[（）、，][（）、，/ ]*", chinese)))
        if term.get("loose") or english.lower() in chinese.lower():
            continue
        for name in re.split(r", | \(|\)| or ", english):
            if name:
                word = rf"(?<![\w-]){re.escape(name)}(?:s|es)?(?![\w-])"
                found.append((re.compile(word, re.I), allowed))
    return found


def faults(english: str, chinese: str) -> list[str]:
    "What of an English cell does not stand in its Chinese block."
    if len(re.findall("^```", chinese, re.M)) % 2:
        return ["has a fence ``` that does not end"]
    words, inside = prose(english), "\n".join([*spans(chinese), *FENCE.findall(chinese)])
    found = [f"lacks `{each}`" for each in spans(english) if not stands(each, inside)]
    lines = (typed(english), typed(chinese))
    found += [f"lacks the line {each!r}" for each in lines[0] if each not in lines[1]]
    found += [f"has the line {each!r} besides" for each in lines[1] if each not in lines[0]]
    if sorted(lines[0]) == sorted(lines[1]) and lines[0] != lines[1]:
        found.append("has its lines of code in another order")
    there = addresses(chinese)
    found += [f"lacks the address {each}" for each in addresses(english) if each not in there]
    found += [f"lacks {each}" for each in NAME.findall(words) if not stands(each, chinese)]
    for number, unit in NUMBER.findall(words):
        written = "|".join(map(re.escape, forms(number)))
        if not re.search(rf"(?<![\d.])(?:{written})(?!\d) ?{unit}", chinese):
            found.append(f"lacks the number {number} {unit}".rstrip())
    if re.search("[A-Za-z]{3} [A-Za-z]{2}", words) and not re.search("[一-鿿]", chinese):
        found.append("has no Chinese")
    levels = [re.findall("^#+(?= )", FENCE.sub("", each), re.M) for each in (english, chinese)]
    if levels[0] != levels[1]:
        found.append(f"has the headings {levels[1]}, the English {levels[0]}")
    for what, form in (("table rows", r"^\|"), ("list items", r"^ *(?:[-*]|\d+\.) ")):
        there = [len(re.findall(form, FENCE.sub("", t), re.M)) for t in (english, chinese)]
        if there[0] != there[1]:
            found.append(f"has {there[1]} {what}, the English {there[0]}")
    for pattern, allowed in terms():
        if (word := pattern.search(words)) and not any(each in chinese for each in allowed):
            found.append(f"says {word[0]!r} otherwise than the glossary: {' or '.join(allowed)}")
    return list(dict.fromkeys(found))


# ---- a page ----


def chinese_pages() -> set[str]:
    "The pages that are there in Chinese: those that have a text, and those of tools/pages.py."
    texts = {f"{path.stem[1:]}.ipynb" for path in CHINESE.glob("_*.md")}
    return texts | {path.name for path in CHINESE.glob("*.ipynb")}


def slug(title: str) -> str:
    "The name of a place that the site makes of a heading."
    return re.sub(r"[^\w.-]", "", title.lower().replace(" ", "-"))


def led(text: str, pages: set[str]) -> str:
    "A text whose links and pictures lead from nbs/zh: to the Chinese page where there is one."

    def moved(match: re.Match) -> str:
        page, mark, place = match[2].partition("#")
        picture = page.removesuffix(".svg") + ".zh.svg"
        if re.match(r"\w+:|/", page) or not page or page in pages:
            return match[0]
        page = picture if page.endswith(".svg") and (BOOK / picture).exists() else page
        return f"{match[1]}{posixpath.normpath(f'../{page}')}{mark}{place}"

    return outside(text, lambda part: LINK.sub(moved, part))


def anchored(chinese: str, english: str) -> str:
    "Headings that links may lead to by their English name."
    titles = [each[1] for each in HEADING.findall(FENCE.sub("", english))]
    names = map(slug, titles)

    def named(match: re.Match) -> str:
        name = next(names, "")
        wanted = name and name != slug(match[2])  # a place that the heading has already
        return f'<a id="{name}"></a>\n\n{match[0]}' if wanted else match[0]

    return outside(chinese, lambda part: HEADING.sub(named, part))


def read_notebook(name: str) -> dict:
    "An English page. Fault: it cannot be read, or its cells have not an id each."
    file = f"nbs/{name}.ipynb"
    try:
        page = json.loads((BOOK / f"{name}.ipynb").read_text(encoding="utf8"))
        ids = [each["id"] for each in page["cells"]]
    except (OSError, ValueError) as error:
        raise Fault(f"{file}: it cannot be read: {error}") from error
    except (KeyError, TypeError) as error:
        raise Fault(f"{file}: it is no notebook whose cells have ids: nbdev_clean") from error
    if twice := next((each for each in ids if ids.count(each) > 1), ""):
        raise Fault(f"{file}: two cells have the id {twice}")
    return page


def as_file(notebook: dict) -> str:
    "A notebook as nbdev_clean writes it."
    return json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


class Page:
    "One page of the book, its Chinese text, and how far the two agree."

    def __init__(self, name: str):
        self.name, self.path = name, CHINESE / f"_{name}.md"
        self.notebook = read_notebook(name)
        self.cells = {
            each["id"]: words
            for each in self.notebook["cells"]
            if each["cell_type"] == "markdown"
            and (words := "".join(each["source"])).strip()
            and not ENGLISH_LINE.fullmatch(words.strip())
        }
        try:
            text = self.path.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise Fault(f"nbs/zh/_{name}.md:{line}: it is not UTF-8: {error}") from error
        except OSError as error:
            raise Fault(f"nbs/zh/_{name}.md: it cannot be read: {error}") from error
        self.blocks = read_blocks(text, f"nbs/zh/_{name}.md")
        self.by_cell = {each.cell: each for each in self.blocks}
        self.new = [each for each in self.cells if not getattr(self.by_cell.get(each), "text", "")]
        self.changed = [
            each
            for each in self.cells
            if each not in self.new and self.by_cell[each].digest != digest(self.cells[each])
        ]
        left = (each for each in self.blocks if each.cell not in self.cells)
        self.gone = [each.cell for each in left if each.text]

    def text(self) -> str:
        "The text as it is kept: in the page's order, empty blocks for new cells, gone ones last."
        kept = []
        for cell, english in self.cells.items():
            block = self.by_cell.get(cell)
            kept.append(block if block and block.text else Block(cell, digest(english)))
            kept[-1].gone = False
        left = [self.by_cell[each] for each in self.gone]
        for each in left:
            each.gone = True
        return "\n".join(map(str, [*kept, *left]))

    def faults(self) -> list[str]:
        "What blocks lack that were written for the English of today."
        return [
            f"nbs/zh/_{self.name}.md: the block {cell} {fault}"
            for cell, english in self.cells.items()
            if cell not in (*self.new, *self.changed)
            for fault in faults(english, self.by_cell[cell].text)
        ]

    def lists(self) -> list[str]:
        "The cells that are new, changed and gone, each with its first words."
        said = []
        for kind in ("new", "changed", "gone"):
            for cell in getattr(self, kind):
                words = self.cells.get(cell) or self.by_cell[cell].text
                said.append(f"{kind:8} {self.name} {cell} {' '.join(words.split())[:60]}")
        return said

    def told(self, cell: str, pages: set[str]) -> str:
        "A cell's Chinese; with a note where the English has moved on; its English where it is new."
        english = self.cells.get(cell)
        if english is None:
            return f"[English](../{self.name}.ipynb)"
        if cell in self.new:
            return led(english, pages)
        text = led(anchored(self.by_cell[cell].text, english), pages)
        if cell not in self.changed:
            return text
        # The site takes a title from a cell of its own: there the note becomes part of the line.
        title = text.startswith("# ") and "\n> " in text
        return f"{text} {CHANGED}" if title else f"{CHANGED}\n\n{text}"

    def made(self, pages: set[str]) -> str:
        "The Chinese notebook: it exports nothing."
        cells = [{"cell_type": "raw", "id": "made", "metadata": {}}]
        cells[0]["source"] = FRONT.format(name=self.name)
        for cell in self.notebook["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "code":
                source = EXPORTS.sub("", source)
            elif cell["cell_type"] == "markdown" and source.strip():
                source = self.told(cell["id"], pages)
            if source.strip():
                cells.append({**cell, "source": source})
        for cell in cells:
            cell["source"] = cell["source"].splitlines(keepends=True)
        return as_file({**self.notebook, "cells": cells})


def former(name: str, wanted: str, cell: str) -> str:
    "The English that a block was written for, from the history; empty where it is not there."
    file = f"nbs/{name}.ipynb"
    command = ["git", "log", "--format=%h", "--", file]
    if not shutil.which("git"):
        raise Fault("--diff needs git: it reads the English from the history")
    commits = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.split()
    for commit in commits:
        command = ["git", "show", f"{commit}:{file}"]
        shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
        for each in json.loads(shown)["cells"] if shown else []:
            if each["id"] == cell and digest("".join(each["source"])) == wanted:
                return "".join(each["source"])
    return ""


def remake(name: str) -> None:
    "Make a page's Chinese notebook again, after its English one was saved."
    if (CHINESE / f"_{name}.md").exists():
        made = Page(name).made(chinese_pages())
        (CHINESE / f"{name}.ipynb").write_text(made, encoding="utf8")


def pages() -> list[Page]:
    "Every page that has a Chinese text. Fault: a text cannot be read, or its page is gone."
    names = sorted(path.stem[1:] for path in CHINESE.glob("_*.md"))
    for name in names:
        if not (BOOK / f"{name}.ipynb").exists():
            raise Fault(f"nbs/zh/_{name}.md: there is no nbs/{name}.ipynb")
    return list(map(Page, names))


def without_chinese() -> list[str]:
    "Pages of the book that lack a text; library pages stay English, tools/pages.py needs none."
    found = []
    for path in sorted(BOOK.glob("*.ipynb")):
        made, text = CHINESE / path.name, CHINESE / f"_{path.stem}.md"
        if text.exists():
            continue
        chapter = re.match(r"\d\d_", path.stem) or "#| default_exp" not in path.read_text("utf8")
        ours = not made.exists() or f"/{text.name}" in made.read_text("utf8", errors="replace")
        found += [path.stem] if chapter and ours else []
    return found


def main() -> int:  # exit code
    "Write texts and notebooks, or say what is out of date; then what is left to translate."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail where one is old")
    parser.add_argument("--diff", metavar="CELL", help="what changed in the English of a block")
    parser.add_argument("--accept", metavar="CELL", help="a block fits its English again")
    options = parser.parse_args()
    if options.check and options.accept:
        parser.error("--check writes nothing, and --accept does")
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a terminal without Chinese letters
    try:
        book = pages()
        for cell in filter(None, (options.diff, options.accept)):
            having = [each for each in book if cell in each.by_cell]
            if len(having) != 1:
                names = " and ".join(each.name for each in having)
                held = f"{names} have a" if having else "no page has a"
                raise Fault(f"{held} cell {cell} with a Chinese block")
            page = having[0]
            if cell not in page.cells:
                raise Fault(f"nbs/{page.name}.ipynb: the cell {cell} is gone")
            block, now = page.by_cell[cell], page.cells[cell]
            if options.diff:
                lines = (former(page.name, block.digest, cell).splitlines(), now.splitlines())
                print(*difflib.unified_diff(*lines, "then", "now", lineterm=""), sep="\n")
                return 0
            block.digest = digest(now)
            page.path.write_text(page.text(), encoding="utf8")
            book = pages()
        wrong = [fault for each in book for fault in each.faults()]
    except Fault as fault:
        print(fault, file=sys.stderr)
        return 1
    names = chinese_pages()
    files = {each.path: each.text() for each in book}
    files |= {CHINESE / f"{each.name}.ipynb": each.made(names) for each in book}
    print(*wrong, sep="\n", end="\n" if wrong else "", file=sys.stderr)
    left = [f"no text  nbs/zh/_{name}.md" for name in without_chinese()]
    left += [line for each in book for line in each.lists()]
    print(*left, sep="\n", end="\n" if left else "")
    try:
        return max(settle(files, "tools/translate.py", options.check), int(bool(wrong)))
    except OSError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
