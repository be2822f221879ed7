"What would be started, said; and the files that hand a service over."

import json
import re
import shlex
import shutil
import subprocess
from dataclasses import replace

import machines
import pytest

from qwen_npu_tut import walk
from qwen_npu_tut.server import handover
from qwen_npu_tut.server.launch import key_file, made_key_file
from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.base.settings import Settings
from qwen_npu_tut.base.files import write_atomic
from qwen_npu_tut.engine.stacks import stacks
from qwen_npu_tut.walk import Choice


def test_print_says_where_each_value_came_from(run, tmp_path, monkeypatch):
    (tmp_path / "qwen-npu.toml").write_text("port = 31000\ncontext_length = 4096\n")
    monkeypatch.setenv("QWEN_NPU_MEMORY_FRACTION", "0.8")
    code, out, _ = run("serve", "--print", "--stack", "cpu", "--tp", "2")
    assert code == 0
    for name, value, origin in (
        ("port", "31000", "qwen-npu.toml"),
        ("memory_fraction", "0.8", "QWEN_NPU_MEMORY_FRACTION"),
        ("tensor_parallel", "2", "the call"),
        ("host", "127.0.0.1", "the default"),
    ):
        assert re.search(
            rf"{name} +{re.escape(value)} +.*{re.escape(origin)}$", out, re.MULTILINE
        ), (name, out)
    assert (
        "--tp-size 2" in out
        and "--mem-fraction-static 0.8" in out
        and "SGLANG_CPU_OMP_THREADS_BIND=" in out
    )
    assert not (tmp_path / "home").exists()  # and nothing was started or written


def test_print_never_shows_a_key(run, monkeypatch):
    monkeypatch.setenv("QWEN_NPU_API_KEY", "sk-very-secret")
    for words in ((), ("--json",)):
        code, out, err = run("serve", "--print", "--stack", "cpu", *words)
        assert code == 0 and "sk-very-secret" not in out + err and "not shown" in out


def test_the_page_beside_ours(run):
    found = json.loads(run("serve", "--print", "--stack", "guide", "--json")[1])
    flags = {row["flag"]: row for row in found["page"]}
    assert (
        flags["--host"]["page"] == "0.0.0.0"
        and flags["--host"]["ours"] == "127.0.0.1"
        and all(row["why"] for row in found["page"])
    )
    assert "--attention-backend" not in flags


@pytest.mark.parametrize(
    "words, sentence",
    [
        (("--preset", "w4"), "There is no preset named"),
        (("--preset", "w8a8", "--stack", "cann-8.2"), "is described for cann-9.0"),
        (("--tp", "0"), "out of range"),
        (("--host", "no such host", "--stack", "cann-8.2"), "cannot be given a key unseen"),
    ],
)
def test_what_cannot_be_served(run, server, words, sentence):
    code, _, err = run("export", "systemd", *words)
    assert code in (1, 2) and sentence in err and "Traceback" not in err


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not here")
def test_a_unit_with_odd_names(run, tmp_path, monkeypatch):
    monkeypatch.setenv("QWEN_NPU_HOME", str(tmp_path / "home 家 50%"))
    (tmp_path / "home 家 50%").mkdir()
    (tmp_path / 'model "x" $y').mkdir()
    code, out, err = run(
        "export",
        "systemd",
        "--stack",
        "cpu",
        "--model",
        str(tmp_path / 'model "x" $y'),
        "-o",
        "qwen.service",
    )
    assert code == 0, err
    text = (tmp_path / "qwen.service").read_text()
    unit = tmp_path / "checked.service"
    unit.write_text(
        re.sub(r'^ExecStart="[^"]*"', 'ExecStart="/usr/bin/env"', text, flags=re.MULTILINE)
    )  # pytest is in the place of qwen-npu here
    checked = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert not [line for line in checked.stderr.splitlines() if "checked.service" in line], (
        checked.stderr
    )
    words = shlex.split(
        re.search("^ExecStart=(.*)$", text, re.MULTILINE)[1].replace("%%", "%").replace("$$", "$")
    )
    assert words[1:3] == ["serve", "--foreground"] and str(tmp_path / 'model "x" $y') in words
    assert (
        run("export", "systemd", "--stack", "cpu", "-o", "qwen.service")[0] == 2
        and (tmp_path / "qwen.service").read_text() == text
    )


def test_a_compose_file_says_what_docker_run_says(run, server, private_home):
    write_atomic(key_file("default"), "of a server that runs")
    code, out, err = run("export", "compose", "--stack", "cann-9.0-image", "--host", "0.0.0.0")
    assert code == 0, err
    assert key_file("default").read_text() == "of a server that runs"
    service = json.loads(out)["services"]["qwen"]
    assert (
        service["image"] == stacks()["cann-9.0-image"].images["A3"]
        and len(service["devices"]) == 19
        and service["privileged"]
    )
    assert (
        service["command"][:3] == ["python3", "-m", "sglang.launch_server"]
        and "--config" in service["command"]
    )
    made = made_key_file("default").read_text().strip()
    assert (
        made not in out
        and made in key_file("default-compose").read_text()
        and oct(key_file("default-compose").stat().st_mode & 0o777) == "0o600"
    )
    assert run("export", "compose", "--stack", "cann-9.0")[0] == 2


def test_a_unit_needs_a_port(run):
    code, _, err = run("export", "systemd", "--stack", "cpu", "--port", "0")
    assert code == 2 and "needs a port of its own" in err


def test_no_key_is_in_a_unit(server):
    text = handover.systemd_unit(
        Choice(Settings(api_key="sk-very-secret"), server, stacks()["cpu"]),
        "/usr/bin/qwen-npu",
        "qwen",
    )
    assert "sk-very-secret" not in text and "EnvironmentFile=-" in text


def test_who_holds_a_device_is_named():
    machine = read_machine(
        replace(machines.A2, used=60000, processes=((0, 4711, "mindieservice_b", 57000),)).host()
    )
    (busy,) = walk.busy_devices(Choice(Settings(), machine, stacks()["cann-9.0"]))
    assert "process 4711 on NPU 0" in busy.what and busy.fix
