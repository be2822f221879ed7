"""Cells that are not run everywhere: `npu` wants an NPU, real or emulated; `card` the card itself,
which no emulation has; `train` takes long."""

import json
from pathlib import Path

import nbformat
import pytest
from nbdev.config import get_config
from run_notebooks import NOT_YET, ON_NPU, REHEARSED, directives

ROOT = Path(__file__).resolve().parents[2]
NBS = ROOT / "nbs"
# What a card alone can show: npu-smi, HBM, the driver. Skipped on an emulated NPU, by name.
OF_THE_CARD = {"01_check.ipynb": ["c4d00002"]}


def flagged(*flags: str) -> list[tuple[Path, dict, dict]]:
    "Cells with one of these flags: page, cell, and the text behind it."
    found = []
    for path in sorted(path for path in NBS.rglob("*.ipynb") if path.parent.name != "zh"):
        cells = nbformat.read(path, as_version=4).cells
        for cell, behind in zip(cells, [*cells[1:], None]):
            if cell.cell_type == "code" and {*flags} & {*directives(cell.source)}:
                found.append((path, cell, behind))
    return found


def test_the_flags_are_nbdevs():
    assert get_config(path=ROOT).tst_flags.split() == ["npu", "train", "card"]
    assert {*ON_NPU} == {"npu", "card"}


def test_what_is_skipped_on_an_emulated_npu():
    found: dict[str, list[str]] = {}
    for path, cell, _ in flagged("card"):
        found.setdefault(path.name, []).append(cell.id)
        assert "npu" not in directives(cell.source), "it would run on an emulated NPU"
    assert found == OF_THE_CARD


@pytest.mark.parametrize(
    "path, cell, behind",
    [pytest.param(*each, id=f"{each[0].stem}-{each[1].id}") for each in flagged(*ON_NPU)],
)
def test_the_text_behind_says_where_it_was_recorded(path, cell, behind):
    card, real = "card" in directives(cell.source), behind.source.startswith("*Recorded on ")
    assert behind.cell_type == "markdown"
    if behind.source.startswith(NOT_YET):
        assert not cell.outputs
    else:
        assert cell.outputs and (real or (behind.source == REHEARSED and not card))
    told = json.dumps(cell.outputs)
    assert not real or ("(grade: npu)" in behind.source and "(emulated)" not in told)
