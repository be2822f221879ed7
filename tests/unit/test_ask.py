"The commands that only look, as a shell sees them."

import json
from dataclasses import replace

import machines
import pytest

from qwen_npu_tut.base.files import program
from qwen_npu_tut.host.record import Recorder, record_text
from qwen_npu_tut.host.machine import read_machine


@pytest.fixture(autouse=True)
def any_port(run, monkeypatch):
    monkeypatch.setenv("QWEN_NPU_PORT", "0")


@pytest.fixture
def record(tmp_path):
    def write(machine, name="machine.json"):
        recorder = Recorder(machine.host())
        read_machine(recorder)
        if machine.probe:
            recorder.run(("torch_npu",))
        (tmp_path / name).write_text(record_text(recorder, []), encoding="utf8")
        return name

    return write


def test_a_record_is_judged(run, record):
    code, out, _ = run("check", "--machine", record(machines.A2), "--json")
    report = json.loads(out)
    assert code == 0 and report["stack"] == "cann-9.0" and report["machine"]["soc"] == "Ascend910B3"
    assert {"id", "level", "what", "fix", "source"} == set(report["findings"][0])
    code, out, _ = run("check", "--machine", record(replace(machines.A2, rights=False)))
    assert code == 1 and "usermod -aG HwHiAiUser" in out and "Findings that block: 1;" in out


def test_a_record_has_its_own_probe(run, record):
    code, out, _ = run(
        "check", "--machine", record(replace(machines.A2, probe=machines.PROBE_OK, nodes=False))
    )
    assert code == 0 and "torch_npu computes on Ascend910B3." in out  # missing nodes only warn then
    code, out, _ = run(
        "check",
        "--machine",
        record(
            replace(machines.A2, probe="ImportError: libatb.so: cannot open shared object file\n")
        ),
    )
    assert code == 1 and "NNAL" in out


def test_another_stack_is_held_against_it(run, record):
    code, out, _ = run("check", "--machine", record(machines.A2), "--stack", "cann-8.2")
    assert code == 0 and "Install CANN 8.2.RC1 in place of 9.0.0." in out
    assert run("check", "--machine", record(machines.A2), "--stack", "cann-7")[0] == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "no json",
        '{"qwen_npu_record": 1, "files": [1]}',
        '{"qwen_npu_record": 2}',
        "[" * 100_000,
    ],
)
def test_what_is_no_record(run, tmp_path, text):
    (tmp_path / "machine.json").write_text(text)
    code, out, err = run("check", "--machine", "machine.json")
    assert (
        code == 2 and "is not the record of a machine" in err and not out and "Traceback" not in err
    )


def test_a_report_is_written_and_nothing_else_is_written_over(run, tmp_path):
    code, out, _ = run("report", "-o", "machine.json")
    assert code == 0 and (tmp_path / "machine.json").stat().st_mode & 0o777 == 0o600
    assert run("report", "-o", "machine.json")[0] == 0
    assert run("check", "--machine", "machine.json")[0] in (0, 1)
    (tmp_path / "letter.txt").write_text("dear")
    assert (
        run("report", "-o", "letter.txt")[0] == 2
        and (tmp_path / "letter.txt").read_text() == "dear"
    )
    code, _, err = run("report", "-o", "nowhere/machine.json")
    assert code == 2 and "There is no folder" in err and not (tmp_path / "nowhere").exists()
    assert json.loads(run("report")[1])["qwen_npu_record"] == 1


def test_deep_needs_an_engine(run):
    code, _, err = run("check", "--deep", "--stack", "cann-9.0")
    assert code == 1 and "not installed yet" in err and "qwen-npu install --stack cann-9.0" in err


def test_nothing_is_written_by_asking(run, tmp_path):
    for words in (["check"], ["stack", "list"], ["stack", "show", "guide"], ["report"]):
        run(*words)
    assert not (tmp_path / "home").exists()


def test_a_disputed_pin_says_who_disagrees(run):
    out = run("stack", "show", "cann-9.0")[1]
    assert "against" in out and "COMPATIBILITY.en.md" in out


def test_stack_verify_ends_with_one_where_a_pin_cannot_be_had(run, monkeypatch):
    from qwen_npu_tut.engine import resolve

    answers = {"one": "does not exist", "two": "resolves", "three": "index not reached"}
    for name, verdict in answers.items():
        monkeypatch.setattr(
            resolve,
            "verify_stack",
            lambda wanted, verdict=verdict: [resolve.Resolution("torch", "1", "aarch64", verdict)],
        )
        assert run("stack", "verify", "cpu")[0] == (1 if name == "one" else 0)
    assert (
        json.loads(run("stack", "verify", "cpu", "--json")[1])[0]["verdict"] == "index not reached"
    )


def test_the_probe_is_a_program():
    compile(program("probe").read_text(encoding="utf8"), "probe", "exec")
