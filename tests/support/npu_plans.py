"""A plan for an NPU, really run on a simulated server: whole, or with an index that fails.

Chip and network are stand-ins; nothing here was run on an NPU."""

import os
import subprocess
from dataclasses import replace

import machines
import pytest
from standins import PYTHON, installed, stand_in
from wheels import index

from qwen_npu_tut.engine import installation as kernels
from qwen_npu_tut.base.events import Problem
from qwen_npu_tut.engine.plan import run_plan
from qwen_npu_tut.engine.stacks import stacks
from qwen_npu_tut.engine.target import stack_folder
from qwen_npu_tut.host.machine import read_machine


@pytest.fixture
def npu_server(monkeypatch, tmp_path):
    "A simulated server with NPUs, made by a call: gives its machine, and the stack with its CANN."

    def prepare(series, name, architecture):
        monkeypatch.setenv("QWEN_NPU_HOME", str(tmp_path / "home 家"))
        for variable, value in stand_in(tmp_path, stacks()[name], architecture).items():
            monkeypatch.setenv(variable, value)
        monkeypatch.setattr(kernels, "RELEASES", (tmp_path / "releases").as_uri())
        monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
        cann = str(tmp_path / "昇腾 cann")
        wanted = replace(stacks()[name], cann_roots=(cann,), python=(PYTHON,))
        machine = read_machine((machines.A3 if series == "A3" else machines.A2).host())
        return replace(machine, architecture=architecture, python=PYTHON), wanted

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


def run_whole(npu_server, monkeypatch, tmp_path, series, name, architecture):
    "Run a plan, look at what it left, run it again."
    machine, wanted = npu_server(series, name, architecture)
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


def fail_and_go_on(npu_server, monkeypatch, tmp_path, fault):
    "A plan whose index fails, then the same plan with one that answers."
    machine, wanted = npu_server("A2", "cann-8.5", "aarch64")
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
