"""The chapters follow the machine they run on, and show more than they export."""

import ast
import re

import nbformat
import pytest
from chapters import NBS, SUBJECTS, chapter, exports, source_of
from run_notebooks import LABELS, directives

from qwen_npu_tut.engine.stacks import stacks

each_chapter = pytest.mark.parametrize("name", SUBJECTS)
STAGED = re.compile(r"^# staged: \w", re.M)


def code(name: str) -> list[tuple[str, nbformat.NotebookNode]]:
    "A chapter's code cells, with their sources."
    cells = nbformat.read(NBS / f"{name}.ipynb", as_version=4).cells
    return [(each.source, each) for each in cells if each.cell_type == "code"]


def texts(source: str) -> set[str]:
    "The strings that a cell's Python holds."
    python = "\n".join(line for line in source.splitlines() if not line.startswith(("#|", "%")))
    nodes = ast.walk(ast.parse(python))
    return {node.value for node in nodes if isinstance(node, ast.Constant)} - {None}


@each_chapter
def test_it_is_measured(name):
    assert not chapter(name).faults()


@each_chapter
def test_only_a_staged_failure_names_a_stack(name):
    "On a server with NPUs the same cells are to install and serve there."
    found = {
        cell.id: sorted(texts(source) & {*stacks()})
        for source, cell in code(name)
        if not STAGED.search(source)
    }
    assert not any(found.values()), {id: names for id, names in found.items() if names}


@each_chapter
def test_the_machine_is_chosen_first(name):
    own = [
        source for source, _ in code(name) if not re.match(r"#\| (default_exp|export|hide)", source)
    ]
    assert re.search(r"^(\w+ = )?choose\(|= choose\(", own[0], re.M), own[0]


@each_chapter
def test_what_both_lanes_print_is_labelled(name):
    "A download is the same on both machines."
    shown = [cell for source, cell in code(name) if "lanes" in directives(source)]
    assert bool(shown) is (name != "04_download")
    for cell in shown:
        said = "".join(each.get("text", "") for each in cell.outputs)
        assert all(said.count(label) == 1 for label in LABELS.values()), cell.id


@each_chapter
def test_library_code_stands_in_the_library(name):
    cells = [each for each in chapter(name).cells if each["cell_type"] == "code"]
    for source in filter(exports, map(source_of, cells)):
        kinds = {type(node) for node in ast.parse(source).body}
        assert kinds <= {ast.Import, ast.ImportFrom}, source
