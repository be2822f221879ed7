"The rules that keep the chapters readable and runnable."

import ast
import json
import re
from pathlib import Path

import pytest
import yaml
from leaks import leaks

ROOT = Path(__file__).resolve().parents[2]
NBS = ROOT / "nbs"
NOTEBOOKS = sorted(path for path in NBS.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
ENGLISH = [path for path in NOTEBOOKS if path.parent.name != "zh"]
CHAPTERS = sorted(NBS.glob("0*.ipynb"))
CELL_LINES = 30

each_notebook = pytest.mark.parametrize(
    "notebook", NOTEBOOKS, ids=lambda path: path.relative_to(NBS).as_posix()
)

each_english = pytest.mark.parametrize(
    "notebook", ENGLISH, ids=lambda path: path.relative_to(NBS).as_posix()
)


def cells(notebook: Path, kind: str) -> list[tuple[int, str, dict]]:
    "Number, source and cell of all cells of a kind."
    found = json.loads(notebook.read_text(encoding="utf8"))["cells"]
    return [
        (number, "".join(cell["source"]), cell)
        for number, cell in enumerate(found)
        if cell["cell_type"] == kind
    ]


def python_of(source: str) -> str:
    """A cell's Python, without nbdev's directives and IPython's magics; a cell of another language
    is empty."""
    if re.search(r"^%%", source, re.M):
        return ""
    return "\n".join("" if re.match(r"\s*[%!]|#\|", line) else line for line in source.splitlines())


@each_notebook
def test_cells_are_short(notebook):
    long = {
        number: len(source.splitlines())
        for number, source, _ in cells(notebook, "code")
        if len(source.splitlines()) > CELL_LINES
    }
    assert not long, f"cells with more than {CELL_LINES} lines: {long}"


@each_notebook
def test_imports_stand_alone(notebook):
    "The docs build runs every cell that has an import, with nothing that stands above it."
    mixed = []
    for number, source, _ in cells(notebook, "code"):
        body = ast.parse(python_of(source)).body
        imports = [
            statement for statement in body if isinstance(statement, ast.Import | ast.ImportFrom)
        ]
        if imports and len(imports) < len(body):
            mixed.append(number)
    assert not mixed, f"cells with imports and other code: {mixed}"


@each_notebook
def test_no_shell_escapes(notebook):
    "A cell with `!command` passes even when the command fails."
    found = [
        number
        for number, source, _ in cells(notebook, "code")
        if re.search(r"^\s*!|=\s*!", source, re.M)
    ]
    assert not found, f"cells with '!': {found}"


@each_notebook
def test_no_errors_are_saved(notebook):
    found = [
        number
        for number, _, cell in cells(notebook, "code")
        if any(output["output_type"] == "error" for output in cell["outputs"])
    ]
    assert not found, f"cells that saved an error: {found}"


@each_notebook
def test_nothing_private_is_saved(notebook):
    found = {
        number: leaks(json.dumps(cell["outputs"], ensure_ascii=False))
        for number, _, cell in cells(notebook, "code")
    }
    found = {number: words for number, words in found.items() if words}
    assert not found, f"outputs that give a machine away: {found}"


REHEARSED = "*Recorded in rehearsal, on an emulated NPU (grade: emulated)"


@each_english
def test_npu_outputs_say_where_they_come_from(notebook):
    """A cell that needs an NPU, or the card itself, has either no output or one that was recorded;
    the text behind it says which, and on what. `tools/npu.py --fill` writes it for a real NPU."""
    npu = {
        number: bool(cell["outputs"])
        for number, source, cell in cells(notebook, "code")
        if re.match(r"#\|\s*(npu|card)\b", source)
    }
    told = {
        number - 1: source.startswith(("*Recorded on ", REHEARSED))
        for number, source, _ in cells(notebook, "markdown")
        if source.startswith(("*Not recorded yet", "*Recorded "))
    }
    assert told == npu


@each_notebook
def test_opening(notebook):
    "nbdev makes front matter of the title cell and drops what else is in it."
    title = cells(notebook, "markdown")[0][1].strip().splitlines()
    assert title[0].startswith("# ") and title[-1].startswith("> "), (
        "the first cell is '# title' and '> one line'"
    )
    assert [line for line in title[1:-1] if line.strip()] == [], (
        "prose in the title cell never reaches the page: give it a cell of its own"
    )


@pytest.mark.parametrize(
    "chapter, following", list(zip(CHAPTERS, CHAPTERS[1:])), ids=lambda path: path.stem
)
def test_chapters_lead_on(chapter, following):
    text = cells(chapter, "markdown")[-1][1]
    assert f"]({following.name}" in text, (
        f"the last text of {chapter.name} links to {following.name}"
    )


def test_sidebar_lists_every_notebook():
    website = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf8"))["website"]

    def listed(items):
        for item in items:
            if isinstance(item, str):
                yield item
            elif "href" in item:
                yield item["href"]
            yield from listed(item.get("contents", []) if isinstance(item, dict) else [])

    english, chinese = (list(listed(each["contents"])) for each in website["sidebar"])
    library = [name for name in chinese if name.endswith("#top")]
    found = english + [name for name in chinese if name not in library]
    assert sorted(found) == sorted(path.relative_to(NBS).as_posix() for path in NOTEBOOKS)
    assert found[0] == "index.ipynb" and {each.removesuffix("#top") for each in library} < {*found}
    chapters = [path.name for path in CHAPTERS]
    assert [name for name in found if name in chapters] == chapters


def test_every_page_of_the_book_is_there_in_chinese():
    "The same sections in the same order; the library, in English, is one section of links."
    website = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf8"))["website"]

    def book(sections: list) -> list[list[str]]:
        pages = [section["contents"] for section in sections[:-1]]
        return [[getattr(each, "get", {}.get)("href") or each for each in one] for one in pages]

    (english, chinese) = (each["contents"] for each in website["sidebar"])
    assert book(chinese) == [[f"zh/{page}" for page in section] for section in book(english)]
    assert (english[-1]["section"], chinese[-1]["section"]) == ("The library", "程序库（英文）")


@pytest.mark.parametrize(
    "name", ["README.md", "README.zh.md", "CHANGELOG.md", "tools/environment.py"]
)
def test_no_figure_is_left_open(name):
    found = set(re.findall(r"@@\w+@@", (ROOT / name).read_text(encoding="utf8")))
    assert not found, f"still to be measured: {sorted(found)}"
