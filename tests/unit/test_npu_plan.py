"""The whole plan for an NPU, each step really run on a simulated machine.

Chip and network are stand-ins; nothing here was run on an NPU.
"""

import os
import secrets
import shutil
import subprocess

import pytest
from npu_plans import fail_and_go_on, run_whole
from standins import TORCH, installed
from wheels import index, make_wheel

from qwen_npu_tut.engine import installation as kernels
from qwen_npu_tut.engine.target import Engine, cann_environment, stack_folder
from qwen_npu_tut.engine.plan import run_plan
from qwen_npu_tut.base.events import Problem

pytestmark = pytest.mark.slow
CASES = [
    ("A2", "cann-8.3", "aarch64"),
    ("A3", "cann-9.0", "x86_64"),
]  # a build, an archive; prove_npu_plan.py has the others


@pytest.mark.parametrize("series, name, architecture", CASES)
def test_the_plan_is_run_from_first_to_last(
    npu_server, monkeypatch, tmp_path, series, name, architecture
):
    run_whole(npu_server, monkeypatch, tmp_path, series, name, architecture)


@pytest.mark.parametrize(
    "fault, words",
    [
        ("500", "index lacks it or did not answer"),
        ("hang", "was not reached: Read timed out"),
        ("hash", "DO NOT MATCH THE HASHES"),
        ("half", "wheel of torch is damaged"),
    ],
)
def test_an_index_that_fails_in_the_middle(npu_server, monkeypatch, tmp_path, fault, words):
    assert words in fail_and_go_on(npu_server, monkeypatch, tmp_path, fault)


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("mount"), reason="a small disk is mounted by root"
)
def test_a_disk_that_is_full_in_the_middle_of_a_wheel(npu_server, monkeypatch, tmp_path):
    machine, wanted = npu_server("A2", "cann-8.5", "aarch64")
    make_wheel(
        tmp_path / "wheels",
        "torch",
        f"{wanted.version('torch')}+cpu",
        code=f"{TORCH}\nballast = '{secrets.token_hex(20_000_000)}'",
    )
    small = tmp_path / "home 家" / "stacks"
    small.mkdir(parents=True)
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=45m", "tmpfs", str(small)], capture_output=True
    ).returncode:
        pytest.skip("nothing may be mounted here")
    try:
        with index(tmp_path / "wheels") as address:
            monkeypatch.setenv("PIP_INDEX_URL", address)
            steps = installed(machine, wanted)[:3]
            with pytest.raises(Problem, match="The step 'torch' did not succeed") as problem:
                run_plan(steps, os.environ)
            assert "A disk is full" in problem.value.fix and steps[2].done.gap()
            subprocess.run(["mount", "-o", "remount,size=200m", str(small)], check=True)
            run_plan(steps, os.environ)
        assert [step.done.gap() for step in steps] == ["", "", ""]
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_a_remote_out_of_reach_and_no_git(npu_server, monkeypatch, tmp_path):
    machine, wanted = npu_server("A2", "cann-8.2", "aarch64")
    source = kernels.clone_step(Engine(machine, wanted), "sglang", "v")
    (tmp_path / "repositories" / "sglang.git").rename(tmp_path / "repositories" / "away")
    with pytest.raises(Problem, match="The step 'sglang source' did not succeed"):
        run_plan([source], os.environ)
    (tmp_path / "repositories" / "away").rename(tmp_path / "repositories" / "sglang.git")
    run_plan([source], os.environ)
    assert source.done.gap() == ""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Problem, match="not installed: git, bash, cmake, gcc, g\\+\\+, make"):
        run_plan(installed(machine, wanted, environment={}), os.environ)


def test_a_script_that_asks_for_python3_gets_the_engines(npu_server, tmp_path):
    "NNAL's set_env.sh asks it how torch was built."
    _, wanted = npu_server("A2", "cann-8.5", "aarch64")
    python = stack_folder("cann-8.5") / "env/bin/python"
    python.parent.mkdir(parents=True)
    (python.parent / "python3").write_text("#!/bin/sh\necho of the engine\n")
    (python.parent / "python3").chmod(0o755)
    (tmp_path / "昇腾 cann" / "set_env.sh").write_text('export ATB_ABI="$(python3)"\n')
    assert cann_environment(wanted)["ATB_ABI"] == "of the engine"


def test_a_compiler_that_fails_is_explained(npu_server, monkeypatch, tmp_path):
    machine, wanted = npu_server("A2", "cann-8.2", "aarch64")
    build = tmp_path / "repositories/sgl-kernel-npu.git"
    (build / "build.sh").write_text(
        'echo "CMake Error: No CMAKE_CXX_COMPILER could be found."; exit 1\n'
    )
    for line in (["commit", "-qam", "broken"], ["tag", "-f", wanted.version("sgl-kernel-npu")]):
        subprocess.run(
            ["git", "-C", str(build), "-c", "user.name=t", "-c", "user.email=t@t", *line],
            check=True,
            capture_output=True,
        )
    with (
        index(tmp_path / "wheels") as address,
        pytest.raises(Problem, match="kernels build") as problem,
    ):
        monkeypatch.setenv("PIP_INDEX_URL", address)
        run_plan(installed(machine, wanted), os.environ)
    assert "build-essential" in problem.value.fix
