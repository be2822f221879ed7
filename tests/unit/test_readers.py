"npu-smi, version files and logs as they were recorded; skipped where the recordings are not."

import json
from pathlib import Path

import machines
import pytest

from qwen_npu_tut.check import read_version_file
from qwen_npu_tut.base.diagnose import diagnose
from qwen_npu_tut.base.failures import known
from qwen_npu_tut.host.npusmi import read_npu_smi

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "samples"
REMARKS = {"note", "truncated", "rows_only", "virtual", "exit_code"}  # of whoever collected them


def recordings(kind: str) -> list[Path]:
    return sorted((SAMPLES / kind).glob("*.txt")) or [
        pytest.param(None, marks=pytest.mark.skip("the recordings are not here"))
    ]


def differences(got, wanted, at="") -> list[str]:
    "Where a reading lacks what is expected; more than that is welcome."
    if isinstance(wanted, dict):
        if not isinstance(got, dict):
            return [f"{at}: {got!r}, not {wanted!r}"]
        return [
            each
            for key, value in wanted.items()
            if key not in REMARKS
            for each in differences(got.get(key, "nothing"), value, f"{at}.{key}")
        ]
    if isinstance(wanted, list) and isinstance(got, list) and len(got) == len(wanted):
        return [
            each
            for place, pair in enumerate(zip(got, wanted))
            for each in differences(*pair, f"{at}[{place}]")
        ]
    return [] if got == wanted else [f"{at}: {got!r}, not {wanted!r}"]


@pytest.mark.parametrize("file", recordings("npu_smi"), ids=lambda file: file and file.stem)
def test_npu_smi(file):
    wanted = json.loads(file.with_suffix(".expect.json").read_text())
    assert differences(read_npu_smi(file.read_text(), wanted["command"]).asdict(), wanted) == []


@pytest.mark.parametrize("file", recordings("version_files"), ids=lambda file: file and file.stem)
def test_version_files(file):
    wanted = json.loads(file.with_suffix(".expect.json").read_text())
    assert differences(read_version_file(file.read_text(), wanted["path"]).asdict(), wanted) == []


@pytest.mark.parametrize("file", recordings("errors"), ids=lambda file: file and file.stem)
def test_every_recorded_failure_has_a_cause(file):
    with file.open("rb") as log:
        found = diagnose(log)
    assert found and found[0].id in {row.id for row in known().rows}, "a row, not a code alone"


@pytest.mark.parametrize("name", machines.MACHINES)
def test_the_tables_of_simulated_machines(name):
    machine, _ = machines.MACHINES[name]
    if not machine.chip or machine.npu_smi:
        return
    table = read_npu_smi(machine.table())
    assert len(table.devices) == machine.npus * machine.dies and not table.unread
    assert {each.hbm_total_mb for each in table.devices} == {machine.hbm}
    assert [(each.npu, each.pid, each.name, each.mem_mb) for each in table.processes] == list(
        machine.processes
    )
    assert len(read_npu_smi(machine.chip_map(), "npu-smi info -m").map) == len(table.devices)
    assert [each.power_w for each in table.devices[:2]] == (
        [92.5, None] if machine.dies == 2 else [92.5, 92.5][: machine.npus]
    )


UPPER = "| 0     910B3           | OK           | 92.0        39           0    / 0             |"
LOWER = "| 0                     | 0000:C1:00.0 | 0           0    / 0     3394 / 65536         |"


@pytest.mark.parametrize(
    "lines, npus",
    [
        ([UPPER, LOWER], [0]),
        ([LOWER, UPPER, LOWER], [0]),
        ([UPPER, UPPER, LOWER], [0]),
        ([UPPER] * 4, []),
        ([LOWER] * 3, []),
        (["| 8 cards | OK | 12.5 tok/s |", "| 1 | A2 | 3 / 4 |"], []),
        (["| a | b | c |", "| 1 | 2 | 3 |"], []),
    ],
)
def test_rows_without_headings_invent_no_device(lines, npus):
    assert [
        each.npu for each in getattr(read_npu_smi("\n".join(lines)), "devices", None) or []
    ] == npus
