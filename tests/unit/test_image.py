"""The engine that is an image, with a stand-in for docker: pulled, asked, served from, killed.

Nothing here was run on an NPU.
"""

import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import machines
import pytest
from patience import until
from shellcheck import SHELLCHECK, needs_shellcheck
from standins import TORCH, installed

from qwen_npu_tut.server import lifecycle as serve
from qwen_npu_tut.base.events import Problem
from qwen_npu_tut.engine.plan import run_plan
from qwen_npu_tut.engine.stacks import stacks
from qwen_npu_tut.engine.target import Engine
from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.server.launch import container_name, key_of, launch

IMAGE = stacks()["cann-9.0-image"]


@pytest.fixture
def docker(docker):
    "The stand-in for docker, with torch and torch_npu in its images; the folder of its state."
    (docker / "inside").mkdir()
    (docker / "inside" / "torch.py").write_text(TORCH)
    (docker / "inside" / "torch_npu.py").write_text("")
    return docker


def machine(simulated=machines.A2):
    return read_machine(replace(simulated, docker=True, canns=(), nnal="").host())


def install(**changes) -> list[str]:
    events = []

    def tell(event):
        if event.kind in ("done", "skipped"):
            events.append(f"{event.kind} {event.name}")

    run_plan(installed(replace(machine(), **changes), IMAGE), os.environ, tell)
    return events


def containers(docker) -> list[str]:
    return [each.name for each in docker.glob("containers/*")]


def test_it_is_pulled_once_and_computes(docker):
    assert install() == ["done image", "done interpreter", "done product on the chip"]
    assert install() == ["skipped image", "skipped interpreter", "skipped product on the chip"]
    assert containers(docker) == []
    assert install(
        software=replace(
            machine().software, driver=replace(machine().software.driver, version="26.0.0")
        )
    ) == ["skipped image", "skipped interpreter", "done product on the chip"]


@pytest.mark.parametrize(
    "simulated, name, devices",
    [
        (machines.A2, "cann-9.0-image", 8),
        (machines.A3, "cann-9.0-image", 16),
        (machines.A2, "cann-8.2-image", 8),
    ],
)
def test_the_line_is_what_upstream_documents(docker, simulated, name, devices):
    """sgl-project/sglang, Ascend installation.mdx@b258740d.

    devmm_svm, dcmi, npu-smi, and hccn.conf where the host has it: vllm-project/vllm-ascend."""
    wanted = stacks()[name]
    run_plan(installed(machine(simulated), wanted), os.environ)
    last = json.loads((docker / "last.json").read_text())
    assert (
        last["image"] == wanted.images[machine(simulated).series] and last["program"] == "python3"
    )
    assert {"--privileged", "--network=host", "--ipc=host", "--shm-size=16g", "--rm"} <= set(
        last["given"]
    )
    assert last["given"]["--device"] == [
        *sorted(f"/dev/davinci{number}" for number in range(devices)),
        "/dev/davinci_manager",
        "/dev/devmm_svm",
        "/dev/hisi_hdc",
    ]
    assert {each.split(":")[0] for each in last["given"]["--volume"]} == {
        "/usr/local/Ascend/driver",
        "/usr/local/Ascend/firmware",
        "/usr/local/dcmi",
        "/etc/ascend_install.info",
        "/etc/hccn.conf",
    }
    assert len(last["given"]["--group-add"]) == 1


@pytest.fixture
def started(docker, settings, monkeypatch):
    install()
    engine = Engine(machine(), IMAGE)
    return lambda **more: serve.start(launch(replace(settings, **more), engine, dict(os.environ)))


def test_a_server_in_a_container(docker, started, private_home):
    server = started(api_key="one-of-ours")
    assert (
        server.ready
        and containers(docker) == [container_name("tested")]
        and key_of("tested") == "one-of-ours"
    )
    given = json.loads((docker / "last.json").read_text())
    assert (
        "one-of-ours" not in json.dumps(given) and "one-of-ours" not in Path(server.log).read_text()
    )
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert b"one-of-ours" not in process.read_bytes()
        except OSError:
            continue  # it has ended
    assert {each for each in given["given"]["--volume"] if each.endswith(":ro")} == {
        f"{server.model}:{server.model}:ro",
        f"{private_home}/servers:{private_home}/servers:ro",
    }
    assert serve.stop("tested") and containers(docker) == []


def test_a_client_that_was_killed_leaves_nothing(docker, started):
    server = started()
    os.kill(server.pid, signal.SIGKILL)
    until(lambda: not server.alive)
    assert containers(docker) == [container_name("tested")]  # docker would go on serving
    assert serve.status("tested")["state"] == "dead"
    again = started()  # the old one is removed by its name
    assert again.pid != server.pid and serve.stop("tested") and containers(docker) == []


@pytest.mark.parametrize("fault, words", [("denied", "usermod -aG docker"), ("full", "disk")])
def test_what_docker_refuses_is_explained(docker, fault, words):
    (docker / "fault").write_text(fault)
    with pytest.raises(Problem, match="The step 'image' did not succeed") as problem:
        install()
    assert words in problem.value.fix and "goes on at this step" in problem.value.fix
    (docker / "fault").unlink()
    assert install()[0] == "done image"


def test_without_docker_nothing_is_begun(private_home, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Problem, match="not installed: docker"):
        install()
    assert not (private_home / "stacks").exists()


@needs_shellcheck
def test_the_interpreter_is_a_sound_shell_script(docker, tmp_path):
    install()
    line = [SHELLCHECK, "--severity=warning", Engine(machine(), IMAGE).python]
    assert subprocess.run(line).returncode == 0


def test_up_from_first_to_last(docker, run, monkeypatch, tmp_path):
    """The whole walk on a simulated server that has driver and docker.

    The image is proposed, shown, asked for once, and answers."""
    from qwen_npu_tut import walk
    from qwen_npu_tut.rehearsal.hub import small_model

    monkeypatch.setattr(walk, "read_machine", lambda host: machine())
    small_model(tmp_path / "模型")
    words = ("up", "--model", str(tmp_path / "模型"), "--port", "0")
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    code, out, err = run(*words)
    assert (
        code == 1
        and "stated by their sources" in out
        and "30 GB of free disk" in out
        and not list(docker.glob("images/*"))
    )  # it asked, and was told no
    code, out, err = run(*words, "--yes")
    assert code == 0, err
    assert "stack cann-9.0-image" in err + out and "echo: 你好！" in err + out
    assert run("status")[0] == 0 and len(containers(docker)) == 1
    code, _, err = run("remove", "--yes", "--stack", "cann-9.0-image")
    assert code == 1 and "runs from" in err and "Stop it first" in err
    assert run("down")[0] == 0 and containers(docker) == []
    code, out, _ = run("remove", "--yes", "--stack", "cann-9.0-image")
    assert code == 0 and "docker image rm quay.io/ascend/sglang:" in out
