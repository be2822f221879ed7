"Simulated machines: what the check says of each, from a record and from a folder."

import json
import time
from dataclasses import replace

import machines
import pytest
from machines import MACHINES, SHIPPED, SURROUNDINGS, Expected, Simulated
from patience import patient

from qwen_npu_tut.engine.findings import check
from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.host.record import Recorder, read_record, record_text
from qwen_npu_tut.engine.stacks import stacks

ALL = MACHINES | SURROUNDINGS
each_machine = pytest.mark.parametrize("machine, expected", ALL.values(), ids=ALL.keys())


def judge(host, machine: Simulated):
    return check(read_machine(host, ("torch_npu",) if machine.probe else ()), disk_bytes=20 * 10**9)


def levels(report, level: str) -> set[str]:
    """Findings of a level; that sources disagree about a version, and what is known against a
    release, is said of every machine that a set fits."""
    return {
        each.id
        for each in report.findings
        if each.level == level and not each.id.startswith(("disputed-", "advisory-"))
    }


@each_machine
def test_what_the_check_says(machine: Simulated, expected: Expected):
    report = judge(machine.host(), machine)
    assert report.stack == expected.stack
    assert levels(report, "block") == set(expected.block)
    assert levels(report, "warn") == set(expected.warn)


@each_machine
def test_every_finding_can_be_acted_upon(machine: Simulated, expected: Expected):
    for each in judge(machine.host(), machine).findings:
        assert each.what.endswith("."), each
        assert each.source, each
        assert each.level == "ok" or each.fix, each
        assert each.level in ("ok", "warn", "block")


@each_machine
def test_a_record_is_judged_alike(machine: Simulated, expected: Expected, tmp_path):
    recorder = Recorder(machine.host())
    here = judge(recorder, machine)
    (tmp_path / "machine.json").write_text(record_text(recorder, []), encoding="utf8")
    there = judge(read_record(tmp_path / "machine.json"), machine)
    assert [(each.id, each.level) for each in there.findings] == [
        (each.id, each.level) for each in here.findings
    ]


@pytest.mark.parametrize(
    "name",
    ["a healthy A2", "a healthy A3", "busy cards", "container with everything", "first generation"],
)
def test_a_folder_is_judged_as_its_record(name, tmp_path):
    machine, expected = MACHINES[name]
    report = judge(machine.lay_out(tmp_path), machine)
    assert report.stack == expected.stack
    assert levels(report, "block") - {"python", "disk"} == set(
        expected.block
    )  # those two are this machine's
    assert report.machine.smi == read_machine(machine.host()).smi


@pytest.mark.slow
def test_a_hung_npu_smi_ends_at_its_limit(tmp_path):
    machine = MACHINES["hung npu-smi"][0]
    host = machine.lay_out(tmp_path)
    began = time.monotonic()
    assert read_machine(host).smi.error == "timed_out"
    assert time.monotonic() - began < patient(8)


@pytest.mark.slow
def test_one_that_hangs_after_the_first_answer_ends_too(tmp_path):
    host = machines.A2.lay_out(tmp_path)
    for answer in (tmp_path / "answers/npu-smi").iterdir():
        if answer.name != "answer_info":
            answer.write_text("hang")
    began = time.monotonic()
    smi = read_machine(host).smi
    assert time.monotonic() - began < patient(8)
    assert len(smi.devices) == 8 and smi.chip is None and not smi.healths


def test_the_shipped_records_are_what_the_builder_makes():
    for name, text in machines.shipped().items():
        assert (SHIPPED / name).read_text(encoding="utf8") == text, (
            f"python tests/support/machines.py writes {name} anew"
        )


def test_the_smallest_change_is_named():
    machine = replace(machines.A2, canns=("8.5.0",), nnal="8.5.0", python="3.12")
    report = judge(machine.host(), machine)
    assert report.stack == "cann-8.5"
    (finding,) = [each for each in report.findings if each.id == "stack"]
    assert finding.level == "warn" and finding.fix == "Make environments with Python 3.11."


def test_driver_and_docker_need_no_cann():
    report = judge(MACHINES["driver only, with docker"][0].host(), machines.A3)
    told = {each.id: each for each in report.findings}
    assert report.stack == "cann-8.2-image" and not report.blocked
    assert (
        "needs no more" in told["image"].what and "-a3" in told["image"].what and "cann" not in told
    )


def test_an_image_needs_docker_and_a_host():
    for machine, fix in (
        (machines.A2, "Install docker"),
        (replace(machines.A2, docker=True, container=True), "Leave the container"),
    ):
        report = check(read_machine(machine.host()), stacks()["cann-9.0-image"])
        (image,) = [each for each in report.findings if each.id == "image"]
        assert image.level == "block" and fix in image.fix


@pytest.mark.parametrize("name", [name for name, each in stacks().items() if each.needs_npu])
def test_every_npu_stack_can_be_judged(name):
    "Also one that does not fit gives findings and no error."
    for machine, _ in MACHINES.values():
        assert json.loads(json.dumps(check(read_machine(machine.host()), stacks()[name]).asdict()))


def finding(machine: Simulated, name: str):
    "The finding of a name."
    (found,) = [each for each in judge(machine.host(), machine).findings if each.id == name]
    return found


@pytest.mark.parametrize(
    "name, id, words",
    [
        ("addresses not mounted", "hccn-conf", ["-v /etc/hccn.conf:/etc/hccn.conf:ro", "HCCS"]),
        ("a server without addresses", "hccn-conf", ["hccn_tool -i 0 -ip -s address"]),
        ("a user without a name", "user", ["runAsUser", "-e USER=NAME", "/etc/passwd:ro"]),
        ("no user's name and no NPU", "user", ["export USER=NAME LOGNAME=NAME", "useradd"]),
        ("CANN not sourced", "cann-environment", ["export systemd", "EnvironmentFile"]),
        (
            "the host's numbers in a container",
            "visible-devices",
            ["count from 0", "unset ASCEND_RT_VISIBLE_DEVICES", "VISIBLE_DEVICES=0,1"],
        ),
        ("no device visible", "visible-devices", ["is ''", "sees: none", "=0,1,2,3,4,5,6,7"]),
        ("a number too many", "visible-devices", ["'14,15,16'", "16 devices", "sees: 14, 15."]),
        ("the runtime's variable on a host", "runtime-devices", ["'0-3'", "RT_VISIBLE_DEVICES"]),
        (
            "the runtime's variable with plain docker",
            "runtime-devices",
            ["'4,5'", "0, 1, 2, 3, 4, 5, 6, 7", "--runtime ascend", "--device /dev/davinci"],
        ),
        ("busy cards", "hbm-free", ["ps -o pid,user,args -p 4711", "/proc/4711/cgroup"]),
        ("cards busy in a container", "hbm-free", ["the host's numbers", "/proc/4711/cgroup"]),
        ("cards of another container", "npu-smi", ["-8020", "another container", "docker inspect"]),
    ],
)
def test_what_a_finding_says_and_what_to_do(name, id, words):
    found = finding(ALL[name][0], id)
    assert found.source and [each for each in words if each not in found.what + found.fix] == []


def test_no_process_in_a_container_is_no_free_card():
    machine = replace(machines.A2, container=True, used=60000)
    assert "another container's" in finding(machine, "hbm-free").what
    assert "another container's" not in finding(replace(machine, used=0), "hbm-free").what


@pytest.mark.parametrize(
    "value, nodes, good",
    [
        ("0-7", 8, True),
        ("Ascend910-0,Ascend910-1", 2, True),
        ("0, 1", 2, True),
        ("0-3", 8, False),
        ("0-9", 8, False),
        ("", 8, False),
        ("all", 8, False),
        ("0-99999999999999", 8, False),
    ],
)
def test_what_the_container_runtime_was_told(value, nodes, good):
    told = {"ASCEND_VISIBLE_DEVICES": value}
    machine = replace(machines.A2, container=True, npus=nodes, environment=told)
    assert finding(machine, "runtime-devices").level == ("ok" if good else "warn")


def test_an_old_record_says_nothing_of_a_name(tmp_path):
    machine = replace(machines.A2, named=False)
    recorder = Recorder(machine.host())
    assert not read_machine(recorder).named
    new = json.loads(record_text(recorder, []))
    assert new["named"] is False and new["files"]["/etc/hccn.conf"] is None
    del new["named"]
    (tmp_path / "old.json").write_text(json.dumps(new), encoding="utf8")
    assert read_machine(read_record(tmp_path / "old.json")).named


def test_secrets_stay_at_home(monkeypatch):
    planted = {
        "http_proxy": "http://li:hunter2@10.9.8.7:3128",
        "LD_LIBRARY_PATH": "/home/li/Ascend/lib",
        "HF_ENDPOINT": "https://hub.corp.example",
        "MY_TOKEN": "hf_0123456789",
    }
    machine = replace(machines.A2, environment=planted)
    recorder = Recorder(machine.host())
    read_machine(recorder)
    text = record_text(recorder, ["li", "node-17"])
    assert [
        word
        for word in ("hunter2", "10.9.8.7", "corp.example", "hf_0123", "/home/li", "033EFS1")
        if word in text
    ] == []
    assert "hunter2" in str(recorder.environment())  # it was there to be found
