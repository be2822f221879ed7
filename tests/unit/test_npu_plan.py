"""The whole plan for an NPU, each step really run on a simulated machine.

Chip and network are stand-ins; nothing here was run on an NPU.
"""

import os
import secrets
import shutil
import subprocess
from dataclasses import replace

import machines
import pytest
from standins import PYTHON, TORCH, installed, stand_in
from wheels import index, make_wheel

from qwen_npu_tut import kernels
from qwen_npu_tut.engine.target import Engine, cann_environment, stack_folder
from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.engine.plan import run_plan
from qwen_npu_tut.base.events import Problem
from qwen_npu_tut.engine.stacks import stacks

CASES = [
    ("A2", "cann-8.3", "aarch64"),
    ("A3", "cann-9.0", "x86_64"),
]  # a build, an archive; prove_npu_plan.py has the others


@pytest.fixture
def server(monkeypatch, tmp_path):
    "A simulated server: gives the plan for it, and the index it asks."

    def prepare(series, name, architecture, fault=""):
        monkeypatch.setenv("QWEN_NPU_HOME", str(tmp_path / "home 家"))
        for variable, value in stand_in(tmp_path, stacks()[name], architecture).items():
            monkeypatch.setenv(variable, value)
        monkeypatch.setattr(kernels, "RELEASES", (tmp_path / "releases").as_uri())
        monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
        wanted = replace(
            stacks()[name],
            cann_roots=(str(tmp_path / "昇腾 cann"),),
            indexes={**stacks()[name].indexes},
        )
        machine = read_machine((machines.A3 if series == "A3" else machines.A2).host())
        return replace(machine, architecture=architecture, python=PYTHON), replace(
            wanted, python=(PYTHON,)
        )

    return prepare


def in_engine(name: str, code: str, **environment) -> str:
    done = subprocess.run(
        [str(stack_folder(name) / "env/bin/python"), "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("series, name, architecture", CASES)
def test_the_plan_is_run_from_first_to_last(
    server, monkeypatch, tmp_path, series, name, architecture
):
    run_whole(server, monkeypatch, tmp_path, series, name, architecture)


def run_whole(server, monkeypatch, tmp_path, series, name, architecture):
    "Run a plan, look at what it left, run it again."
    machine, wanted = server(series, name, architecture)
    with index(tmp_path / "wheels") as address:
        monkeypatch.setenv("PIP_INDEX_URL", address)
        deepep = bool(wanted.kernel_archive) or series in wanted.deepep_target
        steps = installed(
            machine, replace(wanted, indexes={"torch": address}), address, deepep=deepep
        )
        events = []
        run_plan(
            steps,
            os.environ,
            lambda event: (
                events.append((event.kind, event.name))
                if event.kind in ("done", "skipped", "failed")
                else None
            ),
        )
    assert [kind for kind, _ in events] == ["done"] * len(steps)
    assert [step.done.gap() for step in steps] == [""] * len(steps)
    # left at the end: the stack's torch and numpy, Ascend's triton, SGLang from the file for NPUs
    assert (
        in_engine(name, "import triton, sglang; print(triton.whose, sglang.file)")
        == "of Ascend #for an NPU"
    )
    versions = in_engine(
        name,
        "from importlib.metadata import version as of; "
        "print(of('torch'), of('numpy'), of('torch-npu'))",
    ).split()
    assert versions == [
        wanted.version("torch")
        + (
            "+cpu"
            if architecture == "x86_64"
            else versions[0].removeprefix(wanted.version("torch"))
        ),
        wanted.version("numpy"),
        wanted.version("torch-npu"),
    ]
    if not wanted.kernel_archive:
        source = stack_folder(name) / "src" / "sgl-kernel-npu"
        assert (source / "arguments").read_text().splitlines() == [
            " ".join(target[series])
            for target in (wanted.kernel_target, wanted.deepep_target)
            if series in target
        ]
        assert (
            f"\nLD_LIBRARY_PATH={tmp_path}/昇腾 cann/runtime/lib64/stub:"
            in (source / "environment").read_text()
        )
    if deepep:
        code = """import sysconfig, pathlib
print((pathlib.Path(sysconfig.get_path('purelib')) / 'deep_ep_cpp.so').resolve().parent.name)"""
        assert in_engine(name, code) == "deep_ep"
    again = []
    run_plan(
        installed(machine, wanted, "https://nobody.invalid", deepep=deepep),
        os.environ,
        lambda event: again.append(event.kind),
    )
    assert set(again) == {"skipped"}  # and no index was asked


def fail_and_go_on(server, monkeypatch, tmp_path, fault):
    "A plan whose index fails, then the same plan with one that answers."
    machine, wanted = server("A2", "cann-8.5", "aarch64")
    monkeypatch.setenv("PIP_RETRIES", "1" if fault == "hang" else "0")
    monkeypatch.setenv("PIP_DEFAULT_TIMEOUT", "2")
    steps = installed(machine, wanted)[:3]  # environment, constraints, torch
    with (
        index(tmp_path / "wheels", fault) as address,
        pytest.raises(Problem, match="The step 'torch' did not succeed") as problem,
    ):
        monkeypatch.setenv("PIP_INDEX_URL", address)
        run_plan(steps, os.environ)
    assert "Its last lines:" in problem.value.fix
    with index(tmp_path / "wheels") as address:
        monkeypatch.setenv("PIP_INDEX_URL", address)
        events = []
        run_plan(
            steps,
            os.environ,
            lambda event: events.append(event.kind) if event.kind != "output" else None,
        )
    assert events == ["skipped", "skipped", "begun", "done"]
    return problem.value.fix


@pytest.mark.parametrize(
    "fault, words",
    [
        ("500", "index lacks it or did not answer"),
        ("hang", "stopped answering"),
        ("hash", "DO NOT MATCH THE HASHES"),
        ("half", "arrived broken"),
    ],
)
def test_an_index_that_fails_in_the_middle(server, monkeypatch, tmp_path, fault, words):
    assert words in fail_and_go_on(server, monkeypatch, tmp_path, fault)


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("mount"), reason="a small disk is mounted by root"
)
def test_a_disk_that_is_full_in_the_middle_of_a_wheel(server, monkeypatch, tmp_path):
    machine, wanted = server("A2", "cann-8.5", "aarch64")
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


def test_a_remote_out_of_reach_and_no_git(server, monkeypatch, tmp_path):
    machine, wanted = server("A2", "cann-8.2", "aarch64")
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


def test_a_script_that_asks_for_python3_gets_the_engines(server, tmp_path):
    "NNAL's set_env.sh asks it how torch was built."
    _, wanted = server("A2", "cann-8.5", "aarch64")
    python = stack_folder("cann-8.5") / "env/bin/python"
    python.parent.mkdir(parents=True)
    (python.parent / "python3").write_text("#!/bin/sh\necho of the engine\n")
    (python.parent / "python3").chmod(0o755)
    (tmp_path / "昇腾 cann" / "set_env.sh").write_text('export ATB_ABI="$(python3)"\n')
    assert cann_environment(wanted)["ATB_ABI"] == "of the engine"


def test_a_compiler_that_fails_is_explained(server, monkeypatch, tmp_path):
    machine, wanted = server("A2", "cann-8.2", "aarch64")
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
