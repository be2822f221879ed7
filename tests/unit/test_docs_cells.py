"""The docs site's own part of a page: its box of imports, the order of names, signatures, tests."""

import ast
import builtins
import json
from pathlib import Path, PurePosixPath

import pytest
from docs_cells import (
    DEFINITIONS,
    EXPORTED,
    HIDDEN,
    IMPORTS,
    directives,
    imports,
    is_test,
    made,
    prepare,
    setup_cells,
    statements,
    text,
    used,
)
from docs_site import WORDS, page_tools, twin
from run_notebooks import LABELS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("nbs/**/[!.]*.ipynb"))
PICTURE = {"output_type": "display_data", "data": {"text/plain": "<x>", "image/svg+xml": "<svg/>"}}
OF_NOTEBOOKS = {"display", "get_ipython"}


def code(source, **more):
    made_here = {"cell_type": "code", "id": str(hash(source)), "metadata": {}, "outputs": []}
    return {**made_here, "source": source, **more}


def show_doc(name, told=""):
    output = {"output_type": "execute_result", "data": {"text/markdown": told}}
    return code(f"#| echo: false\n#| output: asis\nshow_doc({name})", outputs=[output] * bool(told))


def prepared(page, original, **how):
    front = [{"cell_type": "raw", "id": "front", "metadata": {}, "source": "---\n---"}] * 2
    page = {"cells": [*front, *page]}
    prepare(page, {"cells": original}, WORDS["en"], **how)
    return page["cells"][2:]


def inside(nodes):
    "The names that a cell's functions, loops and handlers make for themselves."
    parts = [part for node in nodes for part in ast.walk(node)]
    found = {part.arg for part in parts if isinstance(part, ast.arg)}
    found |= {part.id for part in parts if isinstance(part, ast.Name)} - used(nodes)
    found |= {
        part.id
        for part in parts
        if isinstance(getattr(part, "ctx", 0), ast.Store) and isinstance(part, ast.Name)
    }
    found |= {part.name for part in parts if isinstance(part, (ast.ExceptHandler, *DEFINITIONS))}
    imported = [part for part in parts if isinstance(part, IMPORTS)]
    return found | {
        (each.asname or each.name).split(".")[0] for part in imported for each in part.names
    }


@pytest.mark.parametrize("name", PAGES)
def test_each_example_can_be_copied_and_run(name):
    "After the page's imports, every name of an example is there: made by what is shown above it."
    cells = json.loads((ROOT / name).read_text("utf8"))["cells"]
    box, folded = imports(cells), setup_cells(cells)
    known = set(dir(builtins)) | OF_NOTEBOOKS | inside(ast.parse(box).body)
    for cell in cells:
        said, body = directives(cell), statements(cell)
        if cell["id"] in folded:
            body = ast.parse(folded[cell["id"]]).body
        elif HIDDEN & said.keys():
            continue
        if not EXPORTED & said.keys() and "in_engine" not in said:
            assert used(body) - known - inside(body) == set(), text(cell)
        known |= made(body) | inside(body)


@pytest.mark.parametrize("name", PAGES)
def test_the_box_of_imports_is_python_of_the_page_s_width(name):
    box = imports(json.loads((ROOT / name).read_text("utf8"))["cells"])
    ast.parse(box)
    assert not [line for line in box.splitlines() if len(line) > 100]


def test_imports_are_merged_and_sorted():
    cells = [
        code("#| default_exp host.thing"),
        code("#| export\nimport re\nfrom pathlib import Path"),
        code("#| hide\nfrom fastcore.test import test_eq\nfrom pathlib import PurePath, Path"),
        code("#| export\ndef unseen(): return re"),
        code("#| exports\ndef shown(): return unseen()"),
        code("#| exports\ndef not_called(): return 1"),
        code("#| in_engine\nimport torch\ndef there(): return torch"),
        code("test_eq(shown(), 1)"),
    ]
    assert imports(cells) == "\n".join(
        [
            "import re",
            "from pathlib import Path, PurePath",
            "from fastcore.test import test_eq",
            "from qwen_npu_tut.host.thing import shown, unseen",
        ]
    )


def test_names_come_in_the_order_of_their_cell_and_the_source_last_and_closed():
    source = "@dataclass\nclass First:\n    one: int  # of many\n    two: str = ''\n\n"
    source += "def second(x: First) -> Iterator[First]:\n    'Gives it.'\n    yield x"
    shown = code(f'#| code-fold: show\n#| code-summary: "Exported source"\n{source}', id="both")
    told = '---\n\n[source](https://x.invalid/y.py#L1){{target="_blank"}}\n\n### {0}\n\n'
    told += "```python\ndef {0}(x)->Iterator:\n```\n\n*Gives it.*\n"
    page = [show_doc("second", told.format("second")), shown, show_doc("First")]
    cells = prepared(page, [code(f"#| exports\n{source}", id="both")], linked=False)
    assert [text(cell).splitlines()[-1] for cell in cells] == [
        "show_doc(First)",
        "show_doc(second)",
        "    yield x",
    ]
    first, second = (cell["outputs"][0]["data"]["text/markdown"] for cell in cells[:2])
    assert "@dataclass\nclass First:\n    one: int  # of many\n    two: str = ''\n```" in first
    assert "def second(x: First) -> Iterator[First]:\n```\n\nGives it." in second
    assert "### `second` {#second}" in second and "x.invalid" not in second
    assert "code-fold: true" in text(cells[2])


def test_the_names_of_a_chapter_are_not_in_its_contents():
    source = "#| exports\ndef named(): return 1"
    cells = prepared([show_doc("named")], [code(source)], chapter=True)
    told = cells[0]["outputs"][0]["data"]["text/markdown"]
    assert "### `named` {#named .unlisted}" in told and "def named():" in told


@pytest.mark.parametrize(
    "source, is_one",
    [
        ("test_eq(1, 1)", True),
        ("assert x\nassert y", True),
        ("with expect_fail(Problem, 'no'):\n    call()", True),
        ("for x in xs:\n    test_eq(x, 1)", True),
        ("x = call()\ntest_eq(x, 1)", True),
        ("test_eq(x, 1)\nx = 2", False),
        ("call()\ntest_eq(x, 1)", False),
        ("print(1)", False),
        ("for x in xs:\n    print(x)", False),
        ("%%bash\nls", False),
        ("", False),
    ],
)
def test_a_cell_that_only_checks_is_a_test(source, is_one):
    assert is_test(code(source)) == is_one
    assert not is_test(code(source, outputs=[{"output_type": "stream"}]))
    words = [text(cell) for cell in prepared([code(source)], [code(source)])]
    assert any(">Checked<" in word for word in words) == is_one


def test_a_check_of_what_is_used_later_is_not_only_a_test():
    cell, later = code("x = start()\nassert x"), code("x.stop()")
    assert is_test(cell) and not is_test(cell, {"x"})
    cells = prepared([cell, later], [cell, later])
    assert not [each for each in cells if "Checked" in text(each)]


def test_a_hidden_cell_that_is_needed_is_shown_folded_in_its_place():
    original = [
        code("a = 1", id="a"),
        code("#| hide\nimport os\nhelper = a", id="helper"),
        code("print(helper)", id="b"),
        code("#| hide\nhelper.close()", id="end"),
    ]
    cells = prepared([original[0], original[2]], original)
    assert [cell["id"] for cell in cells] == ["imports", "a", "helper", "b"]
    assert text(cells[2]).splitlines()[-1] == "helper = a"
    assert "code-fold: true" in text(cells[2])


def test_what_a_page_offers():
    chapter = page_tools(Path("05_serve.ipynb"), "https://hub.example/me/it")
    assert "<code>make lab</code>" in chapter and 'href="05_serve.ipynb" download' in chapter
    assert 'href="https://hub.example/me/it/edit/main/nbs/05_serve.ipynb"' in chapter
    page = page_tools(Path("host/machine.ipynb"), "")
    assert "make lab" not in page and 'href="machine.ipynb" download' in page
    assert "edit" not in page
    chinese = page_tools(Path("zh/05_serve.ipynb"), "https://hub.example/me/it")
    assert "下载" in chinese and "<code>zh/05_serve.ipynb</code>" in chinese
    assert 'edit/main/nbs/zh/_05_serve.md"' in chinese, "the notebook is made: its text is edited"


def test_both_languages_have_every_word():
    chinese = WORDS["zh"].keys() - {*LABELS.values()}  # what outputs say, in the words of the page
    assert chinese == WORDS["en"].keys() and {*LABELS.values()} < WORDS["zh"].keys()


@pytest.mark.parametrize(
    "page, other", [("check.html", "zh/check.html"), ("base/files.html", "zh/base/files.html")]
)
def test_twins(page, other):
    assert twin(PurePosixPath(page)) == PurePosixPath(other)
    assert twin(PurePosixPath(other)) == PurePosixPath(page)


def test_a_cell_of_two_lanes_shows_each_under_its_name():
    def printed(lines):
        return {"output_type": "stream", "name": "stdout", "text": lines}

    value = {"output_type": "execute_result", "data": {"text/plain": ["7"]}}
    cell = code(
        "#| lanes\nrun()",
        outputs=[
            printed(["[cpu] on a processor\n", "slow\n"]),
            value,
            printed("[emulated] as an A2\n"),
            value,
        ],
    )
    cells = prepared([cell], [code("#| lanes\nrun()")])
    told = [text(each) for each in cells if each["cell_type"] == "markdown"]
    assert [">[cpu] on a processor<" in each for each in told].index(True) == 1
    assert [">[emulated] as an A2<" in each for each in told].index(True) == 3
    assert [each["outputs"] for each in cells if each["cell_type"] == "code"] == [
        [],
        [printed("slow\n"), value],
        [value],
    ]
    assert ".beside" in told[0]
    for wide in (printed("[emulated] as an A2\n" + "你" * 28), printed("x" * 56), PICTURE):
        cells = prepared([{**cell, "outputs": [*cell["outputs"], wide]}], [code("#| lanes\nrun()")])
        assert ".beside" not in "".join(map(text, cells))


def test_a_link_to_a_method_or_an_unshown_name_has_an_end():
    source = "class Box:\n    'Holds.'\n    def open(self): return 1"
    original = [code(f"#| exports\n{source}"), code("#| exporti\ndef _helper(): return 1")]
    unseen, box = prepared([show_doc("Box")], original)
    assert text(unseen) == '<a id="_helper"></a>'
    assert '<a id="box.open"></a>' in box["outputs"][0]["data"]["text/markdown"]
