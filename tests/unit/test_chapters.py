"""The chapters follow the machine they run on, and show more than they export."""

import ast
import json
import os
import re
import shlex
import subprocess
import tempfile
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from chapters import NBS, SUBJECTS, chapter, exports, source_of
import fastcore.test
from run_notebooks import LABELS, directives

from qwen_npu_tut.check import check
from qwen_npu_tut.engine.installation import as_written
from qwen_npu_tut.engine.stacks import stacks
from qwen_npu_tut.engine.target import Engine
from qwen_npu_tut.host.record import read_record
from qwen_npu_tut.server.client import split_thinking
from qwen_npu_tut.walk import choose

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


def run_cell(name: str, id: str, **given) -> dict:
    "What a chapter's cell leaves behind, run alone with these names."
    (source,) = [source for source, cell in code(name) if cell.id == id]
    names = dict(given)
    exec(source, names)
    return names


A2, A3 = (files("qwen_npu_tut") / "machines" / name for name in ("a2.json", "a3.json"))
WARNED = "[W] a line that torch_npu writes when it ends"


@pytest.mark.parametrize(
    "name, id, said",
    [
        ("02_install", "be00b019", "probe ok: Ascend910B3"),
        ("03_kernels", "4b5ad0c5", "SGLang 0.5.16"),
    ],
)
def test_a_devices_answer_is_found_among_other_lines(name, id, said, capsys):
    chosen = choose(read_record(A2), stack="cann-9.0")
    known = {"choose": lambda: chosen, "serving_base": lambda stack: {}}
    known["test_eq"] = fastcore.test.test_eq
    printed = SimpleNamespace(out=f"{WARNED}\n{said}\n{WARNED}\n")
    run_cell(name, id, run_bounded=lambda *_: printed, **known)
    assert said in capsys.readouterr().out
    with pytest.raises(AssertionError):
        run_cell(name, id, run_bounded=lambda *_: SimpleNamespace(out=""), **known)


def test_the_record_that_was_given_is_shown(monkeypatch, capsys):
    monkeypatch.setenv("QWEN_NPU_MACHINE", str(A3))
    monkeypatch.setenv("QWEN_NPU_STACK", "emulated")
    known = {"Path": Path, "read_record": read_record, "files": files, "choose": choose}
    run_cell("01_check", "4a9aaa84", check=check, **known)
    assert capsys.readouterr().out.startswith("A3 ")


def test_the_guides_line_leaves_the_running_server_its_container(tmp_path):
    "The file in the place of an image's Python removes the container whose name it is given."
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\nprintf "%s" "$QWEN_NPU_CONTAINER" > {tmp_path}/named\n'
        'echo "Repo id must be in the form"\nexit 1\n'
    )
    python.chmod(0o755)
    environment = {"QWEN_NPU_CONTAINER": "qwen-npu-chapter-05", "PATH": os.environ["PATH"]}
    wanted = SimpleNamespace(line=(str(python),), environment=environment)
    known = {"shlex": shlex, "stacks": stacks, "tempfile": tempfile, "subprocess": subprocess}
    run_cell("05_serve", "d1237560", wanted=wanted, **known)
    assert (tmp_path / "named").read_text() == ""


@pytest.mark.parametrize("name", ["02_install", "04_download"])
def test_a_chapters_own_home_is_left_as_it_was_found(name, monkeypatch):
    "Both cells, the one that takes another home and the one that gives it back, may run twice."
    cells = [source for source, _ in code(name) if "home_before" in source]
    assert len(cells) == 2
    monkeypatch.setenv("QWEN_NPU_HOME", "/mine")
    known = {
        "os": os,
        "Path": Path,
        "TemporaryDirectory": tempfile.TemporaryDirectory,
        "chosen": SimpleNamespace(engine=SimpleNamespace(python="python")),
        "small_model": lambda folder: folder.mkdir() or folder,
    }
    for source in (cells[0], cells[0], cells[1], cells[1]):
        exec(source, known)
    assert os.environ["QWEN_NPU_HOME"] == "/mine"


def test_the_guides_steps_are_shown_whatever_python_is_here(capsys):
    "An image brings its own Python; the server may have another, and no conda."
    chosen = choose(read_record(A2), stack="cann-9.0-image")
    bare = replace(chosen, machine=replace(chosen.machine, python="3.9", makers={}))
    known = {"as_written": as_written, "Engine": Engine, "stacks": stacks, "replace": replace}
    run_cell("03_kernels", "a61edac3", chosen=bare, test_eq=fastcore.test.test_eq, **known)
    assert capsys.readouterr().out.startswith("environment, torch\n")


def reply_of(text: str) -> SimpleNamespace:
    "A reply as OpenAI's client gives it, as far as the cells below look."
    message = SimpleNamespace(content=text, reasoning_content="thought")
    return SimpleNamespace(choices=[SimpleNamespace(message=message, text=text)])


def told_twice(*_, out_thinking=lambda text: None, extra_body=None, **more):
    "Thinking that has other words in each stream, and fewer pieces where they are not streamed."
    for piece in ["other"] if extra_body else ["some ", "words"]:
        out_thinking(piece)


OTHER = json.dumps({"choices": [{"message": {"content": "other words"}}]})
SERVICE = SimpleNamespace(
    model="m",
    openai=SimpleNamespace(completions=SimpleNamespace(create=lambda **_: reply_of("other words"))),
)


@pytest.mark.parametrize("id", ["17a7487e", "62943c3d", "a1251e0f", "b5cdc58f"])
def test_replies_are_held_equal_only_where_the_teaching_model_answers(id):
    "On a device two long replies at temperature 0 may differ: the batch decides how it adds up."
    known = {
        "completion": reply_of("words"),
        "message": reply_of("words").choices[0].message,
        "plain": SimpleNamespace(text="words"),
        "complete": lambda *_, **more: reply_of("<think>thought</think>other words"),
        "hello": {"messages": []},
        "who": [],
        "url": "http://127.0.0.1:9",
        "key": None,
        "json": json,
        "service": SERVICE,
        "stream_reply": told_twice,
        "split_thinking": split_thinking,
        "shutil": SimpleNamespace(which=lambda name: name),
        "subprocess": SimpleNamespace(run=lambda *_, **more: SimpleNamespace(stdout=OTHER)),
        "test_eq": fastcore.test.test_eq,
    }
    run_cell("06_call", id, model="Qwen3-8B", **known)
    with pytest.raises(AssertionError):
        run_cell("06_call", id, model="teaching-qwen3", **known)
