"""The record of a run on an NPU: its form, tried with one that is made up for a simulated server,
and its grade, which an emulated NPU's record cannot change."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import machines
import nbformat
import npu
import pytest
import run_notebooks

from qwen_npu_tut.engine.stacks import stacks
from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.host.record import Recorder, record_text
from qwen_npu_tut.base.events import Problem

ROOT = Path(__file__).resolve().parents[2]
LAPTOP = machines.Simulated(chip="", npus=0, nodes=False, driver="", canns=(), npu_smi="absent")
TEXT = {"output_type": "stream", "name": "stdout", "text": "made up for a test\n"}


@pytest.fixture
def chapters(tmp_path):
    "A copy of the chapters."
    (tmp_path / "nbs").mkdir()
    for path in npu.CHAPTERS:
        shutil.copy(path, tmp_path / "nbs")
    return tmp_path / "nbs"


def cell_ids() -> dict[str, list[str]]:
    found = {}
    for path in npu.CHAPTERS:
        ids = [
            cell["id"]
            for cell in json.loads(path.read_text(encoding="utf8"))["cells"]
            if cell["cell_type"] == "code"
            and {"npu", "card"} & {*npu.directives("".join(cell["source"]))}
        ]
        if ids:
            found[path.name] = ids
    return found


def seen(host) -> dict:
    "What a record of a run holds of a machine."
    recorder = Recorder(host)
    read_machine(recorder)
    return json.loads(record_text(recorder, []))


def made_up(tmp_path, **changes) -> Path:
    document = {
        "qwen_npu_run": 1,
        "grade": "npu",
        "date": "2026-11-25",
        "stack": "cann-8.2",
        "machine": seen(machines.A3.host()),
        "packages": {"torch": "2.6.0"},
        "stages": {"check": {"code": 0, "seconds": 0.1, "output": ""}},
        "cells": {name: {each: [TEXT] for each in ids} for name, ids in cell_ids().items()},
    }
    (tmp_path / "run.json").write_text(json.dumps(document | changes), encoding="utf8")
    return tmp_path / "run.json"


def test_outputs_go_into_the_cells_with_machine_and_date(chapters, tmp_path):
    before = {path.name: path.read_text(encoding="utf8") for path in chapters.iterdir()}
    filled = npu.fill(made_up(tmp_path), chapters)
    assert len(filled) == sum(len(ids) for ids in cell_ids().values()) >= 4
    for name, ids in cell_ids().items():
        cells = json.loads((chapters / name).read_text(encoding="utf8"))["cells"]
        for place, cell in enumerate(cells):
            if cell["id"] not in ids:
                continue
            assert "".join(cell["outputs"][0]["text"]) == TEXT["text"]
            assert "".join(cells[place + 1]["source"]).startswith(
                "*Recorded on 2026-11-25 on an Ascend910_9392, driver 25.2.0, CANN 8.2.RC1"
            )
        assert len(cells) == len(json.loads(before[name])["cells"])
    assert (
        npu.fill(made_up(tmp_path), chapters) == filled
    )  # a later record takes the place of an earlier one


def rehearsed(tmp_path, **changes) -> Path:
    "The record of a rehearsal on this machine, as `--rehearse` writes it."
    own = {"grade": "emulated", "stack": "emulated", "machine": seen(LAPTOP.host())}
    return made_up(tmp_path, **own | changes)


@pytest.mark.parametrize("stack", ["emulated", "cpu"])
def test_what_was_rehearsed_stays_out(chapters, tmp_path, stack):
    before = [path.read_bytes() for path in npu.CHAPTERS]
    record = rehearsed(tmp_path, stack=stack, grade=npu.grade(stacks()[stack]))
    done = subprocess.run(
        [sys.executable, ROOT / "tools/npu.py", "--fill", record],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "was not recorded on an NPU" in done.stderr
    assert f"its grade is {stack}." in done.stderr
    assert [path.read_bytes() for path in npu.CHAPTERS] == before


SAYS_SO = [TEXT | {"text": "Ascend910B3 (emulated)\n"}]
SERVED = "process 4711 answers as teaching-qwen3-emulated-npu"


@pytest.mark.parametrize(
    "changes, why",
    [
        ({"grade": "npu"}, "its stack is emulated"),
        ({"grade": "npu", "stack": "no-such"}, "its stack is no-such"),
        ({"grade": "npu", "stack": "cann-9.0"}, "its machine has no /dev/davinci0"),
        (
            {
                "grade": "npu",
                "stack": "cann-9.0",
                "machine": seen(machines.A2.host()),
                "cells": {"02_install.ipynb": {cell_ids()["02_install.ipynb"][0]: SAYS_SO}},
            },
            "its outputs name an emulated NPU",
        ),
        (
            {
                "grade": "npu",
                "stack": "cann-9.0",
                "machine": seen(machines.A2.host()),
                "stages": {"chat 1": {"code": 0, "seconds": 0.1, "output": SERVED}},
            },
            "its outputs name an emulated NPU",
        ),
        (
            {
                "grade": "npu",
                "stack": "cann-9.0",
                "machine": seen(machines.A2.host()),
                "packages": {"qwen_npu_emulated": "0.1.0"},
            },
            "its outputs name an emulated NPU",
        ),
    ],
)
def test_an_emulated_record_that_was_tampered_with_is_refused(chapters, tmp_path, changes, why):
    before = [path.read_bytes() for path in sorted(chapters.iterdir())]
    with pytest.raises(Problem, match=why):
        npu.fill(rehearsed(tmp_path, **changes), chapters)
    assert [path.read_bytes() for path in sorted(chapters.iterdir())] == before


def test_the_grade_is_the_stacks():
    grades = {name: npu.grade(stack) for name, stack in stacks().items()}
    assert grades["cpu"] == "cpu" and grades["emulated"] == grades["emulated-guide"] == "emulated"
    assert {name for name, grade in grades.items() if grade == "npu"} == {
        name for name, stack in stacks().items() if stack.series
    }
    assert npu.flags(stacks()["cann-9.0"]) == ["npu", "card"]
    assert npu.flags(stacks()["emulated"]) == ["npu"] and npu.flags(stacks()["cpu"]) == []


def test_a_rehearsals_stack_needs_no_npu(tmp_path):
    line = [sys.executable, ROOT / "tools/npu.py", "--rehearse", "--stack", "cann-9.0"]
    done = subprocess.run([*line, "--out", tmp_path / "run.json"], capture_output=True, text=True)
    assert done.returncode == 2 and "invalid choice: 'cann-9.0'" in done.stderr
    assert not (tmp_path / "run.json").exists()


NPU_CELL = "#| npu\nprint(1)"


@pytest.mark.parametrize(
    "chapter, behind, printed, then",
    [
        (True, "*Not recorded yet: no NPU.*", "1\n", run_notebooks.REHEARSED),
        (True, run_notebooks.REHEARSED, "1\n", run_notebooks.REHEARSED),
        (False, run_notebooks.REHEARSED, "before\n", run_notebooks.REHEARSED),
        (True, "*Recorded on 2026-11-25 on an A2.*", "before\n", None),
    ],
)
def test_outputs_of_a_real_npu_stay_and_none_is_taken_for_one(
    monkeypatch, tmp_path, chapter, behind, printed, then
):
    monkeypatch.setattr(run_notebooks, "NBS", tmp_path)
    page = tmp_path / ("01_page.ipynb" if chapter else "page.ipynb")
    cells = [nbformat.v4.new_code_cell(NPU_CELL), nbformat.v4.new_markdown_cell(behind)]
    cells[0].outputs = [nbformat.v4.new_output("stream", text="before\n")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), page)
    assert run_notebooks.run(page) == ""
    cell, text = nbformat.read(page, as_version=4).cells
    assert (cell.outputs[0].text, text.source) == (printed, then or behind)


def test_a_cell_of_both_lanes_shows_both_each_behind_its_name(monkeypatch, tmp_path):
    monkeypatch.setattr(run_notebooks, "NBS", tmp_path)
    imports, asking = "import os", 'os.environ["QWEN_NPU_STACK"]'
    sources = (imports, f"#| lanes\n{asking}", asking, f"#| lanes\nprint({asking})")
    cells = [nbformat.v4.new_code_cell(each) for each in sources]
    page = tmp_path / "05_page.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), page)
    assert run_notebooks.run(page) == ""
    _, both, one, printed = nbformat.read(page, as_version=4).cells
    labels = [f"{run_notebooks.LABELS[lane]}\n" for lane in ("cpu", "emulated")]
    assert [each.text for each in both.outputs[::2]] == labels
    values = [each.data["text/plain"] for each in both.outputs[1::2]]
    assert values == ["'cpu'", "'emulated'"] and one.outputs[0].data["text/plain"] == "'cpu'"
    assert [each.text for each in printed.outputs] == [
        f"{labels[0]}cpu\n",
        f"{labels[1]}emulated\n",
    ]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"qwen_npu_run": 2}, "does not say that it is one"),
        ({"cells": []}, "Its part cells"),
        ({"cells": {"01_check.ipynb": [1]}}, "another form"),
        ({"date": "yesterday"}, "is not the record of a run"),
        ({"machine": {"files": {}}}, "is not the record of a machine"),
        ({"cells": {"99_more.ipynb": {}}}, "There is no chapter"),
    ],
)
def test_what_is_no_record(chapters, tmp_path, changes, words):
    before = [path.read_bytes() for path in sorted(chapters.iterdir())]
    with pytest.raises(Problem, match=words):
        npu.fill(made_up(tmp_path, **changes), chapters)
    assert [path.read_bytes() for path in sorted(chapters.iterdir())] == before


def test_an_output_that_gives_a_machine_away_is_refused(chapters, tmp_path):
    name, (first, *_) = next(iter(cell_ids().items()))
    with pytest.raises(Problem, match="printed /home/li/"):
        npu.fill(
            made_up(tmp_path, cells={name: {first: [TEXT | {"text": "/home/li/model"}]}}),
            chapters,
        )


def test_secrets_are_removed_everywhere():
    document = {
        "stages": {"a": {"output": "MY_TOKEN=hf_0123456789 from 10.1.2.3 on node-17"}},
        "list": ["/home/li/x", 1, None, True],
    }
    text = json.dumps(npu.clean(document, ["node-17"]))
    assert (
        not any(word in text for word in ("hf_0123", "10.1.2.3", "node-17", "/home/li"))
        and "true" in text
    )


def test_without_an_npu_it_says_so(private_home, monkeypatch, tmp_path):
    with pytest.raises(Problem, match="no NPU of the series"):
        npu.record(tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()
    monkeypatch.setenv("QWEN_NPU_LANG", "zh")
    with pytest.raises(Problem, match="本机没有 A2 或 A3 系列的 NPU。"):
        npu.record(tmp_path / "out.json")


def test_a_walk_is_told_in_the_readers_language_and_recorded_in_english(
    private_home, monkeypatch, tmp_path, capsys
):
    shell = 'echo "$QWEN_NPU_LANG"'
    lines = {"one": ["sh", "-c", shell], "two": ["sh", "-c", f"{shell}; exit 3"]}
    monkeypatch.setattr(npu, "stages", lambda stack: lines)
    monkeypatch.setattr(npu, "packages", lambda engine: {})
    monkeypatch.setenv("QWEN_NPU_LANG", "zh")
    assert npu.record(tmp_path / "out.json", "cpu") == 1
    told = re.sub(r"[0-9.]+ 秒", "0 秒", capsys.readouterr().out)
    assert told == (
        "== one\n-- one：完成，0 秒\n== two\n-- two：退出码 3，0 秒\n"
        "已写入 out.json：2 个阶段中有 1 个成功。发送之前请先看一遍内容。\n"
    )
    ran = json.loads((tmp_path / "out.json").read_text(encoding="utf8"))["stages"]
    assert [(each["code"], each["output"]) for each in ran.values()] == [(0, "en\n"), (3, "en\n")]


@pytest.mark.parametrize("row", npu.SENTENCES.values())
def test_its_sentences_are_there_in_both_languages(row):
    english, chinese = (sorted(re.findall("{.*?}", row[each])) for each in ("en", "zh"))
    assert english == chinese and re.search("[\u4e00-\u9fff]", row["zh"])
