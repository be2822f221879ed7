"The record of a run on an NPU: its form, tried with one that is made up and marked as such."

import json
import shutil
import subprocess
import sys
from pathlib import Path

import machines
import npu
import pytest

from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.host.record import Recorder, record_text
from qwen_npu_tut.base.events import Problem

ROOT = Path(__file__).resolve().parents[2]
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
            if cell["cell_type"] == "code" and "npu" in npu.directives("".join(cell["source"]))
        ]
        if ids:
            found[path.name] = ids
    return found


def made_up(tmp_path, **changes) -> Path:
    recorder = Recorder(machines.A3.host())
    read_machine(recorder)
    document = {
        "qwen_npu_run": 1,
        "made_up": True,
        "date": "2026-11-25",
        "stack": "cann-8.2",
        "machine": json.loads(record_text(recorder, [])),
        "packages": {"torch": "2.6.0"},
        "stages": {"check": {"code": 0, "seconds": 0.1, "output": ""}},
        "cells": {name: {each: [TEXT] for each in ids} for name, ids in cell_ids().items()},
    }
    (tmp_path / "run.json").write_text(json.dumps(document | changes), encoding="utf8")
    return tmp_path / "run.json"


def test_outputs_go_into_the_cells_with_machine_and_date(chapters, tmp_path):
    before = {path.name: path.read_text(encoding="utf8") for path in chapters.iterdir()}
    filled = npu.fill(made_up(tmp_path), chapters, made_up_too=True)
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
        npu.fill(made_up(tmp_path), chapters, made_up_too=True) == filled
    )  # a later record takes the place of an earlier one


def test_what_was_made_up_stays_out(chapters, tmp_path):
    before = [path.read_bytes() for path in npu.CHAPTERS]
    done = subprocess.run(
        [sys.executable, ROOT / "tools/npu.py", "--fill", made_up(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "was not recorded on an NPU" in done.stderr
    assert [path.read_bytes() for path in npu.CHAPTERS] == before


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
        npu.fill(made_up(tmp_path, **changes), chapters, made_up_too=True)
    assert [path.read_bytes() for path in sorted(chapters.iterdir())] == before


def test_an_output_that_gives_a_machine_away_is_refused(chapters, tmp_path):
    name, (first, *_) = next(iter(cell_ids().items()))
    with pytest.raises(Problem, match="printed /home/li/"):
        npu.fill(
            made_up(tmp_path, cells={name: {first: [TEXT | {"text": "/home/li/model"}]}}),
            chapters,
            made_up_too=True,
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
        npu.record(tmp_path / "out.json", rehearsal=False)
    assert not (tmp_path / "out.json").exists()
