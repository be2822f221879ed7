"""The plan for an NPU with stand-ins, in all its cases: chips, stacks, architectures, by hand,
offline, with failing mirrors, killed again and again.

Run by `make prove`; nothing here was run on an NPU."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from npu_plans import fail_and_go_on, in_engine, run_whole
from standins import installed
from wheels import index

from qwen_npu_tut.engine import installation as kernels
from qwen_npu_tut.base.files import program
from qwen_npu_tut.engine.plan import run_plan, script_text
from qwen_npu_tut.engine.target import Engine, supply

ALL = [
    (series, name, architecture)
    for series in ("A2", "A3")
    for name in ("cann-8.2", "cann-8.3", "cann-8.5", "cann-9.0")
    for architecture in ("aarch64", "x86_64")
]
RUN = """
import os, sys; sys.path.insert(0, {tests!r})
from dataclasses import replace
import machines
from standins import installed
from qwen_npu_tut.engine import installation as kernels
from qwen_npu_tut.base.files import program
from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.engine.plan import run_plan
from qwen_npu_tut.engine.stacks import stacks
kernels.RELEASES = {releases!r}
version = f"{{sys.version_info.major}}.{{sys.version_info.minor}}"
machine = replace(read_machine(machines.A2.host()), python=version)
stack = replace(stacks()[{name!r}], cann_roots=({cann!r},), python=(version,))
def tell(event):
    if event.kind != "output": print(event.kind, event.name, flush=True)
run_plan(installed(machine, stack), os.environ, tell)
"""


@pytest.mark.parametrize("series, name, architecture", ALL)
def test_every_plan_is_run_from_first_to_last(
    npu_server,
    monkeypatch,
    tmp_path,
    series,
    name,
    architecture,
):
    run_whole(npu_server, monkeypatch, tmp_path, series, name, architecture)


@pytest.mark.parametrize("fault", ["page", "empty", "403"])
def test_mirrors_that_fail(npu_server, monkeypatch, tmp_path, fault):
    fail_and_go_on(npu_server, monkeypatch, tmp_path, fault)


def test_the_script_does_the_same(npu_server, monkeypatch, tmp_path):
    machine, wanted = npu_server("A2", "cann-8.5", "aarch64")
    with index(tmp_path / "wheels") as address:
        monkeypatch.setenv("PIP_INDEX_URL", address)
        steps = installed(machine, wanted)
        text = script_text(steps, "by hand")
        (tmp_path / "plan.sh").write_text(text)
        assert str(program("swap").parent) not in text  # it carries what it calls
        runs = [
            subprocess.run(["bash", str(tmp_path / "plan.sh")], capture_output=True, text=True)
            for _ in range(2)
        ]
    assert [each.returncode for each in runs] == [0, 0], runs[0].stderr
    assert runs[1].stdout.count(": done") == len(steps) and [step.done.gap() for step in steps] == [
        ""
    ] * len(steps)


def test_a_folder_of_wheels_in_place_of_any_index(npu_server, monkeypatch, tmp_path):
    machine, wanted = npu_server("A2", "cann-9.0", "x86_64")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    engine = Engine(machine, wanted)
    steps = kernels.installation(engine, supply(engine, tmp_path / "wheels"))
    run_plan(steps, os.environ)
    assert [step.done.gap() for step in steps] == [""] * len(steps)
    assert (
        in_engine("cann-9.0", "from importlib.metadata import version; print(version('torch'))")
        == f"{wanted.version('torch')}+cpu"
    )


@pytest.mark.parametrize("name", ["cann-8.3", "cann-8.5"])
def test_killed_in_every_step(npu_server, monkeypatch, tmp_path, name):
    """kill -9 in the middle of each step, twice, each time followed by another run.

    In the end the plan is whole."""
    machine, wanted = npu_server("A2", name, "aarch64")
    code = RUN.format(
        tests=str(Path(__file__).parents[1] / "support"),
        releases=kernels.RELEASES,
        name=name,
        cann=wanted.cann_roots[0],
    )
    chance, killed_in = random.Random(name), []
    with index(tmp_path / "wheels") as address:
        monkeypatch.setenv("PIP_INDEX_URL", address)
        steps = installed(machine, wanted)
        for turn in range(60):
            process = subprocess.Popen(
                [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
            )
            names = (
                line.split(maxsplit=1)[1].strip()
                for line in process.stdout
                if line.startswith("begun ")
            )
            begun = next((each for each in names if killed_in.count(each) < 2), None)
            if begun is None:
                break  # all was done
            time.sleep(chance.uniform(0, 0.5))
            family = (
                psutil.Process(process.pid).children(recursive=True) if turn % 2 else []
            )  # every other time pip, git and the build are killed too
            for each in (process, *family):
                each.send_signal(signal.SIGKILL)
            process.wait()
            killed_in.append(begun)
        run_plan(steps, os.environ)
    print(
        f"{name}: killed {len(killed_in)} times, in {len(set(killed_in))} of {len(steps)} steps;",
        "whole afterwards",
    )
    assert len(set(killed_in)) > len(steps) / 2
    assert [step.done.gap() for step in steps] == [""] * len(steps)
    assert in_engine(name, "import triton; print(triton.whose)") == "of Ascend"
