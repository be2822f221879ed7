"The name that a built teaching model carries, and the program that runs a notebook's cells."

import hashlib
import json
import subprocess
import sys

import pytest

from qwen_npu_tut.base.files import program
from qwen_npu_tut.rehearsal import tutor

# What goes into a built folder: its name in teaching/MADE_OF, and the digest of what it stands for.
# Where the digest is another one, folders that were built before hold something else: give them
# another name there, and write both here. prove_tutor.py has the digest of a whole folder.
MADE = (
    "0b3e0bc6d716df3c6bc0029605111357528941e7f63eaa58b1de6c302ffc7e23",
    "c63c05155e64b5fe4d02c9988ce7e1ac2aa51da7437f7d8da02d76af88ba7724",
)
COPIED = ("chat_template.jinja", "model_card.md", "weights.safetensors")


def test_the_name_stands_for_what_goes_into_a_folder(tmp_path):
    tutor.write_configuration(tmp_path)
    data = tutor.data_folder()
    parts = [(data / name).read_bytes() for name in COPIED]
    parts += [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    tokens = (tutor.VOCABULARY, tutor.SPLITTING, tutor.CONTROL, tutor.MARKUP)
    parts.append(json.dumps(tokens).encode())
    assert (tutor.made_of(), hashlib.sha256(b"".join(parts)).hexdigest()) == MADE


@pytest.mark.parametrize("language, told", [("en", "something else"), ("zh", "其他内容")])
def test_what_stands_in_the_way_is_said_in_the_readers_language(
    tmp_path, monkeypatch, capsys, language, told
):
    monkeypatch.setenv("QWEN_NPU_LANG", language)
    (tmp_path / "letters.txt").touch()
    assert tutor.main(["build", str(tmp_path)]) == 1
    assert told in capsys.readouterr().err


@pytest.fixture
def run(tmp_path):
    "Runs the program on a notebook of these cells."

    def call(cells: list[str], function: str, **arguments) -> subprocess.CompletedProcess:
        page = tmp_path / "page.ipynb"
        document = [
            {"cell_type": "code", "id": f"cell{number}", "source": cell.splitlines(keepends=True)}
            for number, cell in enumerate(cells)
        ]
        page.write_text(json.dumps({"cells": document}), encoding="utf8")
        line = [sys.executable, program("cells"), page, function, json.dumps(arguments)]
        return subprocess.run(line, capture_output=True, text=True)

    return call


def test_marked_cells_are_run_in_their_order_and_no_others(run):
    done = run(
        [
            "#| in_engine\nimport dataclasses\nfactor = 2",
            "raise SystemExit('not this one')",
            "#| in_engine\n@dataclasses.dataclass\nclass Pair:\n    one: int\n    text: str",
            "#| in_engine\ndef made(number, text): return [Pair(number * factor, text).one, text]",
        ],
        "made",
        number=4,
        text="你好",
    )
    assert (done.returncode, done.stdout) == (0, '[8, "你好"]\n'), done.stderr


def test_what_returns_nothing_prints_nothing_more(run):
    done = run(["#| in_engine\ndef said(): print('only this')"], "said")
    assert (done.returncode, done.stdout) == (0, "only this\n")


def test_a_mistake_names_its_cell(run):
    done = run(["#| in_engine\ndef fails(): return 1 / 0"], "fails")
    assert done.returncode == 1 and "page.ipynb, cell cell0" in done.stderr
